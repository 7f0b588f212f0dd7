from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

from integrations.domain.ids import new_event_id


class TestAnEventsId:
    def test_is_a_uuid_of_version_seven(self) -> None:
        made = new_event_id()

        assert (made.version, made.variant) == (7, RFC_4122)

    def test_begins_with_the_moment_it_was_made(self) -> None:
        made = datetime.fromtimestamp((new_event_id().int >> 80) / 1000, UTC)

        assert abs(datetime.now(UTC) - made) < timedelta(seconds=5)

    def test_is_its_own(self) -> None:
        assert len({new_event_id() for _ in range(10_000)}) == 10_000
