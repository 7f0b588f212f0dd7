"""`runbook webhooks audit`: does it all hold? Secrets, self-tests, horizons, and rows that must not be."""

from datetime import UTC, datetime, timedelta

import typer

from integrations.db import automation, webhook_audit, webhook_selftest
from integrations.domain.automation import FailureMode
from integrations.domain.webhook import LIFECYCLE_WINDOW, Identity, digest_window
from integrations.domain.webhook_audit import Audit, Horizon, Known, findings
from integrations.domain.webhook_channel import Channel
from integrations.providers import catalog
from integrations.providers.catalog import Catalog
from integrations.providers.webhooks.self_test import fingerprint
from starters.page import show_troubles
from starters.reach import Reach, reading
from starters.shell import FAILED, Json, ago, as_json, command, out, table

_SIZES = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


@command
async def audit(json: Json = False) -> None:
    """Audit webhooks: secrets, self-tests, how long a repeat is known and what that costs, rows that must not be.

    Inserts a delivery, and rolls it back. Exit code 1 on a finding.

    Example: runbook webhooks audit
    """
    async with reading() as reach:
        known = catalog.load(reach.settings.providers, reach.settings.simulator_url)
        found = await audited(reach, known)
    wrong = findings(found, reach.settings.webhook_secret_age)
    if json:
        horizons = [each.model_dump() | {"cost": each.cost} for each in found.horizons]
        as_json({"findings": wrong} | found.model_dump() | {"horizons": horizons})
    else:
        _show(found)
        out.print()
        show_troubles(wrong, found.at, none="Nothing was found.")
    if wrong:
        raise typer.Exit(FAILED)


async def audited(reach: Reach, known: Catalog) -> Audit:
    now = datetime.now(UTC)
    async with reach.sessions.begin() as session:
        channels = await webhook_selftest.channels(session)
        held = await automation.why_not(session, FailureMode.WEBHOOK)
    storage = await webhook_audit.storage(reach.sessions, now)
    sizes = None if storage is None else dict(storage)
    stuck, illegal = await webhook_audit.stuck(reach.sessions), await webhook_audit.illegal(reach.sessions)
    used = {each.provider for each in channels}
    return Audit(
        at=now,
        ledger=await webhook_audit.refused(reach.sessions),
        held=held or "",
        horizons=[
            horizon
            for horizon in _horizons(known, reach.settings.webhooks_kept, sizes)
            if horizon.provider in used or (sizes or {}).get(horizon.provider)
        ],
        channels=[Known(channel=each, hash=_hash(known, each, reach.settings.web_base)) for each in channels],
        stuck=None if stuck is None else dict(stuck),
        illegal=None if illegal is None else dict(illegal),
    )


def _hash(known: Catalog, channel: Channel, base: str) -> str | None:
    entry = next((entry for entry in known if entry.id == channel.provider), None)
    return None if entry is None or entry.webhook is None else fingerprint(entry.webhook, channel.versions, base)


def _horizons(known: Catalog, kept: timedelta, sizes: dict[str, tuple[int, int]] | None) -> list[Horizon]:
    return [
        Horizon(
            provider=entry.id,
            identity=Identity.ID if entry.webhook.delivery_id else Identity.DIGEST,
            horizon=entry.redelivery_horizon,
            window=kept if entry.webhook.delivery_id else min(kept, digest_window(entry.redelivery_horizon)),
            notices=LIFECYCLE_WINDOW if entry.webhook.reactions and entry.webhook.may_lack_its_id else None,
            per_day=None if sizes is None else sizes.get(entry.id, (0, 0))[0],
            rows_per_day=None if sizes is None else sizes.get(entry.id, (0, 0))[1],
        )
        for entry in known
        if entry.webhook is not None
    ]


def _show(found: Audit) -> None:
    out.print(f"A delivery was inserted and rolled back: {found.ledger or 'fine'}", markup=False)
    for what, counts in (("stuck", found.stuck), ("in states that cannot be", found.illegal)):
        total = "not counted in time" if counts is None else f"{sum(counts.values()):,}"
        out.print(f"Rows {what}: {total}", markup=False)
    out.print()
    headings = ("PROVIDER", "KNOWN BY", "REPEATS FOR", "KNOWN FOR", "A DAY", "STORAGE OF THE WINDOW")
    table(headings, [_horizon(each) for each in found.horizons], none="No channel.")
    out.print()
    table(
        ("CHANNEL", "LIVE SECRETS", "SELF-TEST", "OF", "NOW"),
        [_channel(each, found.at) for each in found.channels],
        none="No channel.",
    )


def _horizon(each: Horizon) -> tuple[object, ...]:
    a_day = "not measured in time" if each.per_day is None else f"{each.rows_per_day:,} rows, {_size(each.per_day)}"
    return (
        each.provider,
        "its id" if each.identity == Identity.ID else "its body's digest",
        "not documented" if each.horizon is None else str(each.horizon) if each.horizon else "never",
        str(each.window) + (f"; notices without an id {each.notices}" if each.notices else ""),
        a_day,
        "-" if each.cost is None else f"about {_size(each.cost)}",
    )


def _channel(each: Known, now: datetime) -> tuple[object, ...]:
    channel = each.channel
    tested = (
        "never"
        if channel.tested_at is None
        else f"{'passed' if channel.passed else 'FAILED'} {ago(now - channel.tested_at)}"
    )
    return (channel.name, secrets_in_words(channel, now), tested, channel.tested_hash or "-", each.hash or "-")


def secrets_in_words(channel: Channel, now: datetime) -> str:
    """`2 (made 3 d ago), 1 (made 400 d ago, ends 5 h from now)`."""
    words = [
        f"{each.version} (made {ago(now - each.made_at)}{f', ends {ago(now - each.ends_at)}' if each.ends_at else ''})"
        for each in channel.secrets
    ]
    return ", ".join(words) or "NONE"


def _size(count: int) -> str:
    return next((f"{count / size:,.1f} {unit}" for unit, size in _SIZES if count >= size), f"{count} bytes")
