"""Encryption keys: which there are, a new one, everything sealed anew with it, and the old one gone."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import typer

from integrations import temporal
from integrations.db import keys as rows
from integrations.db.vault import Vault
from integrations.domain.errors import StopError, WrongUsageError
from integrations.domain.keyring import Ring, next_id
from integrations.domain.keys import KeyState, ReencryptRequest
from integrations.keyring import KeysFile
from starters.following import AGAIN, followed, incomplete
from starters.reach import Reach, changing, read_settings, reading, warn_without_worker
from starters.shell import FAILED, USAGE, By, Json, Reason, as_json, because, command, fail, out, run, table
from workflows.queues import WORKFLOWS

app = typer.Typer(no_args_is_help=True, help="Encryption keys: status, rotate, re-encrypt, retire.")
_COPY: Final = "Keep a copy of the file apart from the database: a lost key is lost data."
_ROOT: Final = (
    'printf %s "$RUNBOOK_KEY" | openssl base64 -d -A | '
    f"openssl dgst -sha256 -mac HMAC -macopt hexkey:{'00' * 32} -binary | openssl base64 -A"
)
_BY_HAND: Final = f"""the keys come from the environment (RUNBOOK_KEY), which no command can change. To rotate there:

  1. once, so that links outlive the key: set RUNBOOK_ROOT_KEY everywhere to what this prints
     {_ROOT}
  2. make the new key (openssl rand -base64 32), set RUNBOOK_OLD_KEYS="{{new}}:NEW" everywhere, restart
  3. set RUNBOOK_KEY=NEW, RUNBOOK_KEY_ID={{new}}, RUNBOOK_OLD_KEYS="{{current}}:OLD" everywhere, restart
  4. runbook keys reencrypt, then runbook keys retire {{current}}, then unset RUNBOOK_OLD_KEYS

Or move to a file, which these commands change and processes follow without a restart:
  RUNBOOK_KEYS_FILE=/etc/runbook/keys.json runbook keys init"""


@app.command()
@command
async def status(json: Json = False) -> None:
    """Show every key: what seals, what is sealed with it, and whether it opens. Exit code 1 on trouble.

    Example: runbook keys status
    """
    async with reading() as reach:
        vault = Vault(reach.settings.keys)
        async with reach.sessions.begin() as session:
            states = await rows.survey(session, vault)
    if json:
        as_json([_told(state, vault.where) for state in states])
    else:
        shown = [
            (state.key_id, state.place, state.made_at, state.made_by, _rows(state), state.canary, state.row)
            for state in states
        ]
        table(("KEY", "", "KNOWN SINCE", "BY", "SEALED WITH IT", "CANARY", "NEWEST ROW"), shown, none="")
        for state in states:
            if state.trouble:
                out.print(f"\nWRONG  {state.key_id}: {state.trouble}", markup=False)
            if state.next_step(vault.where):
                out.print(f"Next for {state.key_id}: {state.next_step(vault.where)}", markup=False)
    if any(state.trouble for state in states):
        raise typer.Exit(FAILED)


@app.command()
@command
async def init() -> None:
    """Make the file that RUNBOOK_KEYS_FILE names. A key that RUNBOOK_KEY gives is taken over, with its links.

    Example: RUNBOOK_KEYS_FILE=/etc/runbook/keys.json runbook keys init
    """
    config = read_settings()
    if config.keys_file is None:
        raise WrongUsageError("say which file: RUNBOOK_KEYS_FILE=/etc/runbook/keys.json runbook keys init")
    fresh = Ring("k1", {"k1": os.urandom(32)}, os.urandom(32))
    ring = fresh if config.key is None else config.given_ring()
    KeysFile(config.keys_file).create(ring)
    out.print(f"{config.keys_file} has {', '.join(ring.keys)}. {_COPY}", markup=False)
    if config.key is not None:
        out.print("Set RUNBOOK_KEYS_FILE for every process, and unset RUNBOOK_KEY and the variables beside it.")


@app.command()
@command
async def rotate(
    by: By,
    reason: Reason = "",
    stage: Annotated[bool, typer.Option("--stage", help="Only add it: for machines with a file each.")] = False,
    activate: Annotated[str, typer.Option(help="Make a staged key current, on each machine in turn.")] = "",
) -> None:
    """Make a new key, and seal with it from now on. What is sealed already opens as before.

    One that was interrupted is repeated. Machines that do not share one file: --stage, copy the file to all of them,
    then --activate on each.

    Example: runbook keys rotate --reason "yearly"
    """
    if stage and activate:
        raise WrongUsageError("--stage and --activate are two steps: one after the other")
    async with _changing_ring() as (reach, file, vault):
        before = vault.key_id
        async with reach.sessions.begin() as session:
            await rows.check(session, vault, by="runbook keys rotate")
            taken = await rows.known_ids(session)
        key_id = activate or _staged(file, taken)
        await _remembered(reach, vault, key_id, f"{by}: {because(reason, 'runbook keys rotate')}")
        if not stage:
            file.change(lambda ring: ring.activated(key_id))
    if stage:
        out.print(
            f"{key_id} is staged: it opens, and does not seal yet. Copy {file.path} to every machine, and on each:"
        )
        out.print(f"\n  runbook keys status\n  runbook keys rotate --activate {key_id}\n", markup=False)
        return
    out.print(f"{key_id} seals from now on; {before} still opens what it sealed. {_COPY}")
    out.print("To seal everything anew:\n\n  runbook keys reencrypt\n")


@app.command()
@command
async def reencrypt(by: By, reason: Reason = "", wait: bool = True, json: Json = False) -> None:
    """Seal everything with the current key, while the platform works on. Joins a re-encryption that is under way.

    Exit code 1 when rows are left: they are named, and `runbook keys status` says what they need.

    Example: runbook keys reencrypt
    """
    async with changing() as reach:
        vault = Vault(reach.settings.keys)
        request = ReencryptRequest(key_id=vault.key_id, by=by, reason=because(reason, "runbook keys reencrypt"))
        async with reach.sessions.begin() as session:
            await rows.check(session, vault, by=by)
            total = await rows.left(session, request.key_id)
        client = await reach.client()
        handle = await temporal.start_reencryption(client, request)
        await warn_without_worker(client, WORKFLOWS)
        if not wait:
            as_json({"workflow_id": handle.id}) if json else out.print(f"Started: {handle.id}. {AGAIN}")
            return
        result = await followed(reach, handle, request.key_id, total)
    if json:
        as_json(result)
    else:
        out.print(f"{result.moved:,} rows were sealed anew with {result.key_id}.")
    if result.key_id != vault.key_id:
        fail(f"that one was under way, with {result.key_id}, and {vault.key_id} seals now: run it again", FAILED)
    if not result.complete:
        fail(incomplete(result), FAILED)


@app.command()
@command
async def retire(
    key_id: str,
    by: By,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a key for good. Refused while anything is sealed with it. Backups from before then need a copy of it.

    Example: runbook keys retire k1 --yes
    """
    async with changing() as reach:
        source = reach.settings.keys
        source.ring().without(key_id)  # refuses the current one
        if not yes:
            if not sys.stdin.isatty():
                fail("this removes a key for good: run it on a terminal, or with --yes", USAGE)
            typer.confirm(
                f"Backups of the database that are sealed with {key_id} will not open. Retire it?", abort=True
            )
        async with reach.sessions.begin() as session:
            await rows.retire(session, key_id, by=f"{by}: {because(reason, 'runbook keys retire')}")
        # The row first: a command that dies here is repeated, and everything opens meanwhile.
        if isinstance(source, KeysFile):
            source.change(lambda ring: ring.without(key_id))
            out.print(f"{key_id} is retired, and gone from {source.path}.", markup=False)
        else:
            out.print(f"{key_id} is retired. Take it out of RUNBOOK_OLD_KEYS.")


def _rows(state: KeyState) -> list[str]:
    return [f"{count:,} {what}" for what, count in state.rows.items()]


def _told(state: KeyState, where: str) -> dict[str, Any]:
    return state.model_dump() | {"trouble": state.trouble, "next": state.next_step(where)}


@asynccontextmanager
async def _changing_ring() -> AsyncIterator[tuple[Reach, KeysFile, Vault]]:
    """Raises WrongUsageError, with what to do instead, when the keys are not in a file."""
    async with changing() as reach:
        source = reach.settings.keys
        if not isinstance(source, KeysFile):
            raise WrongUsageError(await _by_hand(reach, source.ring()))
        yield reach, source, Vault(source)


async def _by_hand(reach: Reach, ring: Ring) -> str:
    async with reach.sessions.begin() as session:
        taken = await rows.known_ids(session)
    return _BY_HAND.format(new=next_id(taken | set(ring.keys)), current=ring.current)


def _staged(file: KeysFile, taken: set[str]) -> str:
    """The newest staged key: that of a command which died, or of --stage. Else a new one."""

    def stage(ring: Ring) -> Ring:
        return ring if ring.staged else ring.with_key(next_id(taken | set(ring.keys)), os.urandom(32))

    return file.change(stage).staged[-1]


async def _remembered(reach: Reach, vault: Vault, key_id: str, by: str) -> None:
    """The key opens what it seals, and the database knows it: only then may it become current."""
    if not vault.has(key_id):
        raise StopError(f"{vault.where} has no key {key_id!r}; it has {', '.join(vault.ring.keys)}")
    async with reach.sessions.begin() as session:
        await rows.remember(session, vault, key_id, by=by)


if __name__ == "__main__":
    run(app)
