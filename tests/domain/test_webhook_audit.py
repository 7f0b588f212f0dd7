from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.domain.webhook import digest_window
from integrations.domain.webhook_audit import Audit, Horizon, Known, findings
from integrations.domain.webhook_channel import Channel, Secret

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
FAILED = {"passed": False, "cases": [{"name": "valid", "expected": "accepted", "got": "HTTP 500", "passed": False}]}


def secret(days: float = 3, **changes: Any) -> Secret:
    return Secret(**({"version": 1, "made_at": NOW - days * DAY, "ends_at": None} | changes))


def channel(of: str | None = "now", **changes: Any) -> Known:
    told = {
        "provider": "github",
        "channel": "app",
        "connection_id": None,
        "made_at": NOW - 9 * DAY,
        "secrets": [secret()],
        "tested_hash": "now",
        "tested_at": NOW,
        "tested": {"passed": True, "cases": []},
    }
    return Known(channel=Channel(**(told | changes)), hash=of)


def horizon(**changes: Any) -> Horizon:
    told = {"provider": "slack", "identity": "id", "horizon": DAY, "window": 30 * DAY, "per_day": 10, "rows_per_day": 1}
    return Horizon(**(told | changes))


def audit(**changes: Any) -> Audit:
    told: dict[str, Any] = {"at": NOW, "ledger": "", "held": "", "horizons": [horizon()], "channels": [channel()]}
    return Audit(**(told | {"stuck": {"pending deliveries wait": 0}, "illegal": {}} | changes))


def test_what_holds_has_no_finding() -> None:
    assert findings(audit()) == []
    assert findings(audit(stuck=None, illegal=None, horizons=[], channels=[])) == []


@pytest.mark.parametrize(
    ("changes", "what", "command"),
    [
        ({"ledger": "CheckViolation: no"}, "the ledger takes no delivery: CheckViolation: no", "runbook doctor"),
        ({"stuck": {"pending deliveries wait": 3}}, "3 pending deliveries wait", "runbook webhooks status"),
        (
            {"illegal": {"pending and settled": 2}},
            "2 pending and settled: somebody wrote that by hand, or it is a defect",
            "runbook webhooks status",
        ),
        (
            {"channels": [channel(None)]},
            "github/app: the catalog says nothing of webhooks of github; all that comes is refused",
            "runbook webhooks close github app",
        ),
        (
            {"channels": [channel(orphaned=True)]},
            "github/app is open, and its connection is disconnected: what comes is nobody's",
            "runbook webhooks close github app",
        ),
        (
            {"channels": [channel(secrets=[])]},
            "github/app has no live secret: all that comes is refused",
            "runbook connections webhook-secret",
        ),
        (
            {"channels": [channel(secrets=[secret(), secret(366, version=7)])]},
            "github/app: secret 7 is 366 days old, and 365 are allowed",
            "runbook connections webhook-secret",
        ),
        (
            {"channels": [channel(overdue=[secret(ends_at=NOW - DAY / 48)])]},
            "github/app: secret 1 is past its overlap and still kept",
            "runbook doctor",
        ),
        (
            {"channels": [channel(tested=FAILED)]},
            "github/app failed its self-test: valid: HTTP 500, and not accepted",
            "runbook webhooks self-test github app",
        ),
        (
            {"channels": [channel("another")]},
            "github/app was not tested since it changed",
            "runbook webhooks self-test github app",
        ),
        (
            {"channels": [channel(tested_hash=None, tested_at=None, tested=None)]},
            "github/app was never tested",
            "runbook webhooks self-test github app",
        ),
        (
            {"horizons": [horizon(horizon=timedelta(hours=36), window=DAY)]},
            "slack repeats for 1.5 d, and a repeat is known for 1 d: later ones are handled twice",
            "set RUNBOOK_WEBHOOKS_KEPT=2d",
        ),
    ],
)
def test_each_finding_has_its_way_out(changes: dict[str, Any], what: str, command: str) -> None:
    [found] = findings(audit(**changes))

    assert (found.what, found.next) == (what, command)


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": [channel("another", secrets=[secret(0.001)])]},
        {"channels": [channel(secrets=[secret(0.001), secret(400, ends_at=NOW + DAY)])]},
        {"channels": [channel(overdue=[secret(ends_at=NOW - DAY / 144)])]},
        {"channels": [channel("another", overdue=[secret(ends_at=NOW - DAY / 144)])]},
        {"horizons": [horizon(horizon=None)]},
        {"horizons": [horizon(horizon=DAY, window=DAY)]},
        {"held": "webhook is paused by ada", "stuck": {"pending deliveries wait": 3}},
    ],
)
def test_what_is_on_its_way_or_wanted_so_is_none(changes: dict[str, Any]) -> None:
    assert findings(audit(**changes)) == []


def test_a_window_costs_what_its_days_take() -> None:
    assert horizon(per_day=1000, window=30 * DAY).cost == 30_000
    assert horizon(per_day=None).cost is None


def test_a_body_stands_for_one_delivery_as_long_as_its_provider_repeats_it() -> None:
    assert digest_window(None) == digest_window(timedelta(hours=4)) == DAY
    assert digest_window(3 * DAY) == 3 * DAY
