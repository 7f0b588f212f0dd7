"""Is everything in place? Each finding comes with its fix."""

import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

import httpx
import typer
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from integrations import temporal
from integrations.db import binding, connections, contact_addresses, keys, migrate
from integrations.db.session import make_engine, make_sessions
from integrations.db.vault import Vault
from integrations.domain.audience import OPERATORS, way_to_reach
from integrations.domain.errors import RunbookError
from integrations.domain.message import Message
from integrations.domain.quiet_hours import QuietHours
from integrations.providers import catalog
from integrations.settings import Settings, SettingsError
from starters.reach import no_worker_since, read_settings
from starters.shell import FAILED, Json, as_json, command, table
from workflows.queues import DRAIN, NOTIFY, WORKFLOWS, provider_queue

_SKEW: Final = 2.0
"""Seconds between this machine's clock and the database's that are still fine: leases last 30."""


class Finding(Message):
    what: str
    fine: bool
    found: str
    fix: str = ""
    """Of what is fine: what would be better. A warning, and no failure."""

    @property
    def grade(self) -> str:
        if not self.fine:
            return "WRONG"
        return "warning" if self.fix else "fine"


@command
async def doctor(json: Json = False) -> None:
    """Check addresses, versions, schema, keys, search attributes and workers. Exit code 1 when something is wrong.

    Example: runbook doctor
    """
    config = read_settings()
    findings = [_versions(), *await _database(config), *await _temporal(config), await _web(config)]
    if json:
        as_json(findings)
    else:
        rows = [(f.what, f.grade, f.found, f.fix) for f in findings]
        table(("WHAT", "", "FOUND", "FIX"), rows, none="")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(FAILED)


def _unless(fine: bool, fix: str) -> str:
    return "" if fine else fix


def _versions() -> Finding:
    found = f"runbook {version('integrations-runbook')}, temporalio {version('temporalio')}"
    return Finding(what="versions", fine=True, found=f"{found}, Python {sys.version.split()[0]}")


async def _database(config: Settings) -> list[Finding]:
    address = binding.shown(config.sqlalchemy_url)
    engine = make_engine(config.sqlalchemy_url, pool_size=2)
    sessions = make_sessions(engine)
    try:
        async with sessions.begin() as session:
            server = await session.scalar(text("SHOW server_version"))
            now = await session.scalar(text("SELECT clock_timestamp()"))
        skew = abs((datetime.now(UTC) - now).total_seconds()) if now else 0.0
        revision = await migrate.revision(engine)
        findings = [
            Finding(what="database", fine=True, found=f"PostgreSQL {server} at {address}"),
            Finding(
                what="schema",
                fine=revision == migrate.newest(),
                found=f"revision {revision}, newest is {migrate.newest()}",
                fix=_unless(revision == migrate.newest(), "runbook db upgrade"),
            ),
            Finding(
                what="clock",
                fine=skew < _SKEW,
                found=f"{skew:.1f} s off the database's",
                fix=_unless(skew < _SKEW, "synchronise clocks"),
            ),
        ]
        if revision == migrate.newest():
            async with sessions.begin() as session:
                findings.append(await _bound(session, config))
                findings.append(await _keys(session, config))
                findings.append(await _operators(session))
    except OSError as error:
        return [
            Finding(what="database", fine=False, found=f"{address}: {error}", fix="make up, or RUNBOOK_DATABASE_URL")
        ]
    finally:
        await engine.dispose()
    return findings


async def _bound(session: AsyncSession, config: Settings) -> Finding:
    try:
        await binding.check(session, config.sqlalchemy_url, temporal.target(config))
    except RunbookError as error:
        return Finding(what="binding", fine=False, found=str(error), fix="see the message")
    return Finding(what="binding", fine=True, found=f"belongs to {temporal.target(config)}")


async def _keys(session: AsyncSession, config: Settings) -> Finding:
    """As `runbook keys status` sees them."""
    try:
        vault = Vault(config.keys)
        states = await keys.survey(session, vault)
    except (RunbookError, SettingsError) as error:
        return Finding(what="key", fine=False, found=str(error), fix="see the message")
    troubles = [f"{state.key_id}: {state.trouble}" for state in states if state.trouble]
    if troubles:
        return Finding(what="key", fine=False, found="; ".join(troubles), fix="runbook keys status")
    opens = sum(state.in_use for state in states)
    return Finding(what="key", fine=True, found=f"{vault.key_id} seals; every key of {opens} sealed rows is there")


async def _operators(session: AsyncSession) -> Finding:
    """Escalations go to them, and news of notifications that fail."""
    reached = await contact_addresses.of(session, OPERATORS, quiet=QuietHours())
    ways = {audience: sorted({way for each in reached[audience] for way in each.addresses}) for audience in OPERATORS}
    return Finding(
        what="operators",
        fine=True,
        found="; ".join(f"{audience}: reached by {', '.join(by) or 'nothing'}" for audience, by in ways.items()),
        fix="; ".join(way_to_reach(audience) for audience, by in ways.items() if not by),
    )


async def _web(config: Settings) -> Finding:
    """It may well run on another machine: one that does not answer is no failure, one that is not ready is."""
    where = f"http://{config.web_private_host}:{config.web_private_port}/readyz"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=15) as http:
            answer = await http.get(where)
    except httpx.TransportError as error:
        found = f"{where} does not answer ({type(error).__name__})"
        return Finding(what="web", fine=True, found=found, fix="runbook web, unless it runs elsewhere")
    fix = "see what it says; its log says more"
    return Finding(
        what="web",
        fine=answer.is_success,
        found=f"{where}: {answer.status_code} {answer.text[:300]}",
        fix=_unless(answer.is_success, fix),
    )


async def _temporal(config: Settings) -> list[Finding]:
    try:
        client = await temporal.connect(config)
    except temporal.TemporalUnreachableError as error:
        return [Finding(what="temporal", fine=False, found=str(error), fix="make up, or TEMPORAL_ADDRESS")]
    try:
        info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
        missing = [key.name for key in await temporal.missing_attributes(client)]
    except RPCError as error:
        found = f"{temporal.target(config)}: {error.message}"
        return [Finding(what="temporal", fine=False, found=found, fix="TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE")]
    return [
        Finding(what="temporal", fine=True, found=f"server {info.server_version} at {temporal.target(config)}"),
        Finding(
            what="search attributes",
            fine=not missing,
            found=f"missing: {', '.join(missing)}" if missing else "all registered",
            fix=_unless(not missing, "start a worker: it prints the commands that create them"),
        ),
        *await _workers(client, config),
    ]


async def _called(config: Settings) -> dict[str, bool]:
    """The providers whose queue somebody should poll: those of connections, and a simulator that runs.

    False: nothing is at them that works or has to be mended, so that nothing goes wrong while nobody does.
    """
    known = {provider.id for provider in catalog.load(config.providers, config.simulator_url)}
    engine = make_engine(config.sqlalchemy_url, pool_size=1)
    try:
        async with make_sessions(engine).begin() as session:
            used = await connections.providers_in_use(session)
    except (OSError, SQLAlchemyError):  # the finding about the database says so
        used = {}
    finally:
        await engine.dispose()
    called = used | {"simulator": True}
    return {provider_id: called[provider_id] for provider_id in sorted(known & called.keys())}


async def _workers(client: Client, config: Settings) -> list[Finding]:
    needed = dict.fromkeys((WORKFLOWS, DRAIN, NOTIFY), True)
    needed |= {provider_queue(provider_id): needs for provider_id, needs in (await _called(config)).items()}
    findings = []
    for queue, needs in needed.items():
        nobody = await no_worker_since(client, queue)
        found = nobody or f"queue {queue!r} is polled"
        fix = _unless(nobody is None, "runbook worker; it serves a provider from the start after its first connection")
        findings.append(Finding(what="worker", fine=nobody is None or not needs, found=found, fix=fix))
    return findings
