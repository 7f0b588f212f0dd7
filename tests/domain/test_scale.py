import pytest

from integrations.domain.scale import Load, verdict

IDLE = Load(seconds=2.0, looks=40, working=0.2, drain_active=30, drain_waiting=4, free_connections=80)


def judged(cores: int | None = 4, more: int = 4, **changes: object) -> str | None:
    return verdict(IDLE.model_copy(update=changes), cores, more=more)


class TestAVerdict:
    def test_lets_more_dispatchers_in_while_the_database_has_room(self) -> None:
        assert judged() is None
        assert judged(working=3.9) is None

    def test_refuses_when_as_many_sessions_work_as_there_are_cores(self) -> None:
        assert judged(working=4.0) == (
            "the database is saturated: 4.0 sessions worked on its 4 cores over 2.0 s (40 looks)"
        )

    def test_does_not_judge_cores_that_nobody_knows(self) -> None:
        assert judged(None, working=400) is None

    @pytest.mark.parametrize("cores", [None, 4])
    def test_refuses_when_the_drain_mostly_waits_for_the_disk_or_locks(self, cores: int | None) -> None:
        assert judged(cores, drain_waiting=18, waits_for="IO:WalSync") == (
            "the drain waits for the database: 60% of its work for disk or locks, mostly IO:WalSync, over 2.0 s "
            "(40 looks)"
        )
        assert judged(cores, drain_waiting=17) is None

    def test_takes_no_few_looks_at_an_idle_drain_for_a_wait(self) -> None:
        assert judged(drain_active=2, drain_waiting=2) is None

    def test_refuses_more_than_the_server_accepts_connections(self) -> None:
        assert judged(free_connections=4) is None
        assert judged(free_connections=3) == (
            "each dispatcher needs a connection, and of 4 more the server accepts 3 (max_connections)"
        )
