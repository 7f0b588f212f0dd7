from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from integrations.domain.notification import News, Recipient
from integrations.domain.notification_addressing import addressed
from integrations.domain.notification_explained import ways
from integrations.domain.quiet_hours import QuietHours
from tests.notification.ground import definition

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NEWS = News(UUID(int=1), "told.news", NOW, "simulator", "org", "acme", None, {})
ALL = ("webhook", "email", "apprise")
FIRST = "would go by this one, the first that can"
LATER = "follows, should those before it give up"


def states(
    *channels: str,
    tried: dict[str, str] | None = None,
    unready: dict[str, str] | None = None,
    **changes: Any,
) -> list[str]:
    """Of somebody with addresses for these channels."""
    recipient = Recipient("operators.primary", "ada", QuietHours(), {each: UUID(int=7) for each in channels})
    told, lacks = definition(**changes), unready or {}
    chosen = [] if tried else addressed(told, NEWS, [recipient], lacks, NOW)
    return [way.state for way in ways(told, recipient, {UUID(int=7): "a••"}, lacks, tried or {}, chosen)]


class TestAWay:
    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (states(*ALL), [FIRST, LATER, LATER]),
            (states("email", "apprise"), ["no address", FIRST, LATER]),
            (states(*ALL, unready={"webhook": "no key"}), ["cannot send: no key", FIRST, LATER]),
            (states("webhook", "email", mode="all"), [*["would go by this one, as by each"] * 2, "no address"]),
            (states(*ALL, tried={"webhook": "delivered"}), ["delivered", "not needed", "not needed"]),
            (states(*ALL, tried={"webhook": "dropped", "email": "retrying"}), ["dropped", "retrying", LATER]),
            (states(*ALL, tried={"webhook": "dead"}), ["dead", "not tried", "not tried"]),
            (states(), ["no address"] * 3),
        ],
    )
    def test_says_whether_a_channel_carries_it_and_why(self, found: list[str], expected: list[str]) -> None:
        assert found == expected

    def test_shows_an_address_masked_where_there_is_one(self) -> None:
        recipient = Recipient("operators.primary", "", QuietHours(), {"email": UUID(int=7)})

        found = ways(definition(), recipient, {UUID(int=7): "a••"}, {}, {}, [])

        assert [way.address for way in found] == ["", "a••", ""]
