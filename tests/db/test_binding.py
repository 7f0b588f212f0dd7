import pytest

from integrations.db import binding
from integrations.db.binding import Target
from integrations.db.session import Sessions
from integrations.db.tables import Deployment
from integrations.domain.errors import StopError
from tests.factories import stored

REAL = Target(address="temporal.example:7233", namespace="prod")
EMBEDDED = Target(address="127.0.0.1:7001", namespace="default", embedded="/data/a")
LOCAL = "postgresql+asyncpg://runbook:hunter2@127.0.0.1:5432/runbook"
REMOTE = "postgresql+asyncpg://runbook:hunter2@db.example/runbook"


async def bound(sessions: Sessions, target: Target, url: str = LOCAL, *, move: bool = False) -> None:
    async with sessions.begin() as session:
        await binding.bind(session, url, target, by="ada", move=move)


async def checked(sessions: Sessions, target: Target, url: str = LOCAL) -> None:
    async with sessions.begin() as session:
        await binding.check(session, url, target)


class TestADatabase:
    async def test_that_belongs_to_no_temporal_is_refused(self, sessions: Sessions) -> None:
        with pytest.raises(StopError, match="belongs to no Temporal yet: `runbook db upgrade`"):
            await checked(sessions, REAL)

    async def test_takes_its_own_temporal(self, sessions: Sessions) -> None:
        await bound(sessions, REAL)

        await checked(sessions, REAL)
        await bound(sessions, REAL)

        row = await stored(sessions, Deployment, True)
        assert (row.temporal_address, row.temporal_namespace, row.bound_by) == ("temporal.example:7233", "prod", "ada")

    @pytest.mark.parametrize("change", [{"address": "other.example:7233"}, {"namespace": "staging"}])
    async def test_refuses_another_one_and_names_both(self, sessions: Sessions, change: dict[str, str]) -> None:
        await bound(sessions, REAL)
        other = REAL.model_copy(update=change)

        for act in (checked, bound):
            with pytest.raises(StopError) as refused:
                await act(sessions, other)

            said = str(refused.value)
            assert "temporal.example:7233, namespace 'prod'" in said
            assert f"{other.address}, namespace '{other.namespace}'" in said
            assert "127.0.0.1:5432/runbook" in said
            assert "hunter2" not in said
        assert (await stored(sessions, Deployment, True)).temporal_address == REAL.address

    async def test_is_moved_only_when_told_to(self, sessions: Sessions) -> None:
        await bound(sessions, REAL)
        moved = REAL.model_copy(update={"address": "new.example:7233"})

        await bound(sessions, moved, move=True)

        await checked(sessions, moved)
        with pytest.raises(StopError):
            await checked(sessions, REAL)

    async def test_that_is_remote_is_refused_with_an_embedded_temporal(self, sessions: Sessions) -> None:
        for act in (checked, bound):
            with pytest.raises(
                StopError, match=r"db\.example/runbook is remote and the Temporal at 127\.0\.0\.1:7001"
            ) as no:
                await act(sessions, EMBEDDED, REMOTE)
            assert "hunter2" not in str(no.value)

        await bound(sessions, REAL, REMOTE)


class TestAnEmbeddedPair:
    async def test_comes_up_on_other_ports_and_is_still_the_pair(self, sessions: Sessions) -> None:
        await bound(sessions, EMBEDDED)
        again = EMBEDDED.model_copy(update={"address": "127.0.0.1:7999"})

        await bound(sessions, again)

        await checked(sessions, again)

    @pytest.mark.parametrize("folder", ["/data/b", None])
    async def test_is_not_another_folders_nor_nobodys(self, sessions: Sessions, folder: str | None) -> None:
        await bound(sessions, EMBEDDED)
        stranger = Target(address="127.0.0.1:7999", namespace="default", embedded=folder)

        with pytest.raises(StopError, match=r"belongs to the Temporal at 127\.0\.0\.1:7001"):
            await bound(sessions, stranger)

        assert (await stored(sessions, Deployment, True)).temporal_address == "127.0.0.1:7001"

    async def test_never_takes_over_a_real_ones_database(self, sessions: Sessions) -> None:
        await bound(sessions, REAL)

        with pytest.raises(StopError, match=r"belongs to the Temporal at temporal\.example:7233"):
            await bound(sessions, EMBEDDED)


class TestAnAddress:
    @pytest.mark.parametrize(
        ("url", "remote"),
        [
            (LOCAL, False),
            ("postgresql://u@localhost/d", False),
            ("postgresql://u@[::1]/d", False),
            ("postgresql://u@127.0.0.53/d", False),
            ("postgresql://u@/d?host=/var/tmp/sockets", False),
            ("postgresql:///d", False),
            (REMOTE, True),
            ("postgresql://u@10.0.0.1/d", True),
            ("postgresql://u@/d?host=db.example", True),
        ],
    )
    def test_is_remote_when_it_leaves_the_machine(self, url: str, remote: bool) -> None:
        assert binding.is_remote(url) is remote

    def test_is_shown_without_its_password(self) -> None:
        assert binding.shown(REMOTE) == "postgresql://runbook:***@db.example/runbook"

    def test_is_shown_without_a_password_in_its_query(self) -> None:
        assert "hunter2" not in binding.shown("postgresql://runbook@db.example/runbook?password=hunter2")
