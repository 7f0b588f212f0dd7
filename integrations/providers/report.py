"""Saying what came of a call: who hears it remembers it (worker/recorder.py)."""

from collections.abc import Callable
from datetime import UTC, datetime

from integrations.domain.call import Caller, ProviderCall
from integrations.domain.verdict import Verdict
from integrations.providers.http import Response

Record = Callable[[ProviderCall], None]
"""Hears of each call once its outcome is known. It neither waits nor raises."""
Report = Callable[[str, Verdict, Response, float], None]
"""Of one call: its endpoint, what it means, the answer, and the seconds that it took."""


def nothing(_endpoint: str, _verdict: Verdict, _answer: Response, _seconds: float) -> None:
    """The report of a client that nobody listens to: a command's, or one that only makes links."""


def reporting(provider_id: str, caller: Caller, record: Record) -> Report:
    """The report of one caller's calls."""

    def report(endpoint: str, verdict: Verdict, answer: Response, seconds: float) -> None:
        record(
            ProviderCall(
                caller=caller,
                provider_id=provider_id,
                endpoint=endpoint,
                outcome=verdict.meaning,
                rule=verdict.rule,
                status=answer.heard.status,
                duration_ms=round(seconds * 1000),
                at=datetime.now(UTC),
            )
        )

    return report
