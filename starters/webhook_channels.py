"""Channels of webhooks: the addresses that providers were told, what is accepted there, and a test of one at once."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from activities.webhook_selftest import SelfTest
from integrations.db import webhook_channels, webhook_selftest
from integrations.db.vault import Vault
from integrations.domain.errors import StopError
from integrations.domain.nearest import nearest
from integrations.domain.webhook_channel import Channel
from integrations.providers import catalog
from starters.reach import changing, reading
from starters.shell import FAILED, USAGE, By, Json, Reason, ago, as_json, because, command, fail, out, table
from starters.webhook_audit import secrets_in_words


@command
async def channels(json: Json = False) -> None:
    """List the channels: each address, whose deliveries come there, the live secrets and their age, the last self-test.

    Example: runbook webhooks channels
    """
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            found = await webhook_selftest.channels(session)
        base = reach.settings.web_base
    now = datetime.now(UTC)
    if json:
        as_json([{"address": _address(base, each), "passed": each.passed} | each.model_dump() for each in found])
        return
    rows = [
        (
            _address(base, each),
            str(each.connection_id) if each.connection_id else "all of its connections",
            secrets_in_words(each, now),
            _tested(each, now),
        )
        for each in found
    ]
    none = "No channel. `runbook connections webhook-secret --help` tells how one is made."
    table(("ADDRESS", "DELIVERIES OF", "LIVE SECRETS", "SELF-TEST"), rows, none=none)


@command
async def self_test(
    provider: Annotated[str, typer.Argument(help="A provider's id.")],
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    json: Json = False,
) -> None:
    """Send a channel what has to be refused and what has to be taken, through the real ingress, signed with its secret.

    What it sends asks for nothing, and is marked as ours. Exit code 1 when something came out otherwise.

    Example: runbook webhooks self-test github app
    """
    async with changing() as reach:
        config = reach.settings
        async with reach.sessions.begin() as session:
            known = await webhook_selftest.channels(session)
        wanted = next((each for each in known if (each.provider, each.channel) == (provider, channel)), None)
        if wanted is None:
            names = [each.name for each in known]
            near = nearest(f"{provider}/{channel}", names) if names else ""
            raise StopError(f"there is no channel {provider}/{channel} (runbook webhooks channels lists them){near}")
        entries = catalog.load(config.providers, config.simulator_url)
        test = SelfTest(reach.sessions, Vault(config.keys), entries, config.web_base, config.ingress_base)
        cases = await test.run(wanted)
    if json:
        as_json([case.model_dump() | {"passed": case.passed} for case in cases])
    else:
        for case in cases:
            sign, more = ("✔", "") if case.passed else ("✘", f", and not {case.expected}")
            out.print(f"{sign} {case.name}: {case.got}{more}", markup=False)
    if not all(case.passed for case in cases):
        raise typer.Exit(FAILED)


@command
async def close(
    provider: Annotated[str, typer.Argument(help="A provider's id. It need not be in the catalog any more.")],
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    by: By,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take no webhooks at a channel any more: its secrets are forgotten, and its address answers 404. Safe to repeat.

    What it has taken is still handled. `runbook connections webhook-secret` opens it again.

    Example: runbook webhooks close github app --reason "the app is gone"
    """
    async with changing() as reach:
        if not yes:
            if not sys.stdin.isatty():
                fail("this forgets the channel's secrets for good: run it on a terminal, or with --yes", USAGE)
            typer.confirm(f"What comes to {provider}/{channel} will be refused. Close it?", abort=True)
        async with reach.sessions.begin() as session:
            why = because(reason, "runbook webhooks close")
            closed = await webhook_channels.close(session, provider, channel, by=by, reason=why)
    out.print("Closed. Take the address out at the provider." if closed else "It was closed already.")


def _address(base: str, channel: Channel) -> str:
    return f"{base}/webhooks/{channel.provider}/{channel.channel}"


def _tested(each: Channel, now: datetime) -> str:
    if each.tested_at is None:
        return "never"
    found = "passed" if each.passed else f"FAILED: {'; '.join(each.failures)}"
    return f"{ago(now - each.tested_at)}: {found}"
