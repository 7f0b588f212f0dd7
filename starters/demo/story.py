"""A grant is revoked at the provider: the platform finds it out, blocks, invites, takes the consent and proves it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import UUID, uuid4

from temporalio.client import WorkflowHandle

from integrations.domain.connection import reauth_id
from integrations.domain.job import JobResult
from starters.demo import evidence, mail_evidence
from starters.demo.check import Name, judged
from starters.demo.contacts import OWNER
from starters.demo.evidence import WRITE, rows
from starters.demo.mail import Letter, letters
from starters.demo.owner import Owner
from starters.demo.scene import BY, Scene, StoryError, outcome_of, until
from workflows.reconcile import SCHEDULE

_ADA: Final = ("ada@acme.example", "ada")
_BOB: Final = ("bob@other.example", "bob")


class RevokedGrant:
    """The act, step by step."""

    proves: ClassVar[tuple[Name, ...]] = (
        Name.CONNECTED_WITH_PKCE,
        Name.REVOCATION_CONFIRMED,
        Name.PENDING_REAUTH,
        Name.WRITE_BLOCKED,
        Name.WORKER_KILLED_UNHARMED,
        Name.OTHER_ACCOUNT_REFUSED,
        Name.REPAIRED_NEW_VERSION,
        Name.CAPABILITY_SUCCEEDED,
        Name.OWNER_TOLD,
    )

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._platform = scene.platform
        self._sessions = scene.sessions
        self._simulator = scene.simulator
        self._broken = scene.broken
        self._tell = scene.tell
        self._checks = scene.checks
        self._followed: list[Letter] = []
        """The invitations that somebody came by."""

    async def play(self) -> None:
        """Play it to its end. Raises StoryError where it gets stuck; the checks so far are kept."""
        await self._connect()
        await self._revoke()
        await self._write_while_blocked()
        await self._kill_the_worker()
        await self._consent_by_somebody_else()
        await self._repair()
        await self._good_news()

    async def _connect(self) -> None:
        if self._broken is Name.CONNECTED_WITH_PKCE:
            await self._simulator.settings(pkce_required=False)
        row = await self._platform.add("simulator", "org:acme", by=BY, reason="the demo connects an account")
        self._id: UUID = row.id
        self._workflow_id = reauth_id(row.provider_id, row.id)
        self._scene.workflows["connect and re-consent"] = self._workflow_id
        self._tell(f"org:acme is asked to connect the simulator (connection {row.id})")
        await self._consent(*_ADA, strip_challenge=self._broken is Name.CONNECTED_WITH_PKCE)
        await until("the connection is active", self._status_is("active"))
        self._tell("Ada went through login and consent: connected")
        first = await self._call("notes.read", "before the revocation")
        if not first.done:
            raise StoryError(f"a call right after connecting failed: {first.because}")
        self._checks.append(await evidence.connected_with_pkce(self._simulator, self._sessions, self._id))

    async def _revoke(self) -> None:
        self._before: int = (await self._active_versions())[0]
        self._revoked_at = datetime.now(UTC)
        revoked = await self._simulator.revoke("acct_ada")
        self._tell(f"Ada's grant is revoked at the provider ({revoked}); nobody has told the platform")
        if self._broken is Name.REVOCATION_CONFIRMED:
            await self._platform.ask_for_consent(self._id, revoked=True, by=BY, reason="sabotage: said, not seen")
        else:
            handle = await self._platform.refresh(self._id, by=BY, reason="the token is due")
            self._scene.workflows["refresh that finds it out"] = handle.id
            self._tell("a refresh is refused; looked at again in 10 s before anybody believes it …")
            result = await outcome_of(handle)
            self._tell(f"{result.refresh}: {result.why}")
        await until("the connection is pending_reauth", self._status_is("pending_reauth"))
        if self._broken is Name.PENDING_REAUTH:
            await rows(
                self._sessions,
                "DELETE FROM service_lifecycle_outbox WHERE name = 'connection.pending_reauth' RETURNING 1 AS gone",
            )
        confirmed = await evidence.revocation_confirmed(self._simulator, self._sessions, self._id, self._revoked_at)
        self._checks += [confirmed, await evidence.pending_reauth(self._sessions, self._id)]
        invitation = await self._invitation()
        self._scene.letters.append(invitation)
        self._tell(f"blocked, an operator task is open, and Ada has a mail: {invitation.subject}")

    async def _write_while_blocked(self) -> None:
        if self._broken is Name.WRITE_BLOCKED:
            await self._force("status = 'active', grants = missing_grants")
        result = await self._call(WRITE, "must not go out")
        if self._broken is Name.WRITE_BLOCKED:
            await self._force("status = 'pending_reauth', grants = '{}'")
        self._tell(f"a write is tried: {result.decision.answer}, {result.decision.reason}")
        self._checks.append(await evidence.write_blocked(self._simulator, result, self._revoked_at))

    async def _force(self, change: str) -> None:
        """Sabotage: change the connection's row past every guard."""
        await rows(self._sessions, f"UPDATE service_connections SET {change} WHERE id = :id RETURNING 1", id=self._id)  # noqa: S608 - ours

    async def _kill_the_worker(self) -> None:
        handle = self._platform.temporal.get_workflow_handle(self._workflow_id)
        before = await handle.describe()
        code = await self._scene.kill_the_worker("while the lifecycle waits")
        if self._broken is Name.WORKER_KILLED_UNHARMED:
            await handle.terminate("sabotage")
        pid = await self._scene.start_a_worker()
        after = await self._living(handle)
        self._tell(f"another worker is up (pid {pid}); the lifecycle still waits")
        tasks = await rows(
            self._sessions,
            "SELECT count(*) AS n FROM service_operator_tasks WHERE connection_id = :id AND status <> 'closed'",
            id=self._id,
        )
        self._checks.append(
            judged(
                Name.WORKER_KILLED_UNHARMED,
                {
                    "it died of SIGKILL": code == 137,  # noqa: PLR2004 - 128 + 9, as a shell counts
                    "the same run waits on": before.run_id == after,
                    "its task is open": tasks[0]["n"] == 1,
                },
                f"guard: exit code {code}; Temporal: run {before.run_id} before, {after} after",
            )
        )

    async def _living(self, handle: WorkflowHandle[Any, Any]) -> str:
        """The run that waits. When somebody ended it, reconcile starts another; asked for here to save a minute."""
        found = ""

        async def lives() -> bool:
            nonlocal found
            described = await handle.describe()
            found = described.run_id
            running = described.status is not None and described.status.name == "RUNNING"
            if not running:
                await self._platform.temporal.get_schedule_handle(SCHEDULE).trigger()
            return running

        await until("the lifecycle lives", lives, look=1.0)
        return found

    async def _consent_by_somebody_else(self) -> None:
        started = datetime.now(UTC)
        before = [row["version"] for row in await evidence.credential_versions(self._sessions, self._id)]
        who = _ADA if self._broken is Name.OTHER_ACCOUNT_REFUSED else _BOB
        status = await self._consent(*who)
        self._tell(f"{who[0]} consents instead of Ada: {status}")
        check = await evidence.other_account_refused(self._simulator, self._sessions, self._id, started, before)
        self._checks.append(check)

    async def _repair(self) -> None:
        if not await self._status_is("active")():
            await self._consent(*_ADA)
        await until("the connection is active again", self._status_is("active"))
        repaired_at = datetime.now(UTC)
        self._tell("Ada consents: exchanged, proven, activated")
        if self._broken is Name.CAPABILITY_SUCCEEDED:
            await self._simulator.fault(
                kind="status", path="/api/notes", method="POST", status=403, body={"error": "insufficient_scope"}
            )
        key = str(uuid4())
        result = await self._call(WRITE, "hello again", key=key)
        self._tell(f"the write that was blocked goes out: {result.because}")
        if self._broken is Name.REPAIRED_NEW_VERSION:
            sql = "UPDATE service_credentials SET state = 'retired' WHERE connection_id = :id RETURNING 1 AS n"
            await rows(self._sessions, sql, id=self._id)
        self._checks += [
            await evidence.repaired_new_version(self._sessions, self._id, self._before, self._revoked_at),
            await evidence.capability_succeeded(self._simulator, result, key, repaired_at),
        ]

    async def _good_news(self) -> None:
        """Every mail has arrived, and the last of them says that it is over."""

        async def told() -> bool:
            arrived = await letters(self._simulator, OWNER)
            return arrived[-1].subject == mail_evidence.GOOD_NEWS and await self._all_sent()

        await until("the owner is told that it works again", told)
        self._tell(f"and Ada has another mail: {mail_evidence.GOOD_NEWS}")
        if self._broken is Name.OWNER_TOLD:
            await self._simulator.lose_mails()
        followed = [letter.links[0] for letter in self._followed]
        self._checks.append(await mail_evidence.owner_told(self._simulator, self._sessions, self._id, OWNER, followed))

    async def _invitation(self) -> Letter:
        """The mail that nobody has answered yet, once nothing else is on its way."""
        found: list[Letter] = []

        async def arrived() -> bool:
            found[:] = [letter for letter in await letters(self._simulator, OWNER) if letter.asks]
            return len(found) > len(self._followed) and await self._all_sent()

        await until("the owner has a mail that invites", arrived)
        return found[-1]

    async def _all_sent(self) -> bool:
        told = await mail_evidence.dispatches(self._sessions, self._id)
        return all(each["status"] in {"delivered", "dropped"} for each in told)

    async def _consent(self, email: str, password: str, *, strip_challenge: bool = False) -> str:
        """One person's way from the mail's button to the end of the status page."""
        invitation = await self._invitation()
        self._followed.append(invitation)
        self._scene.secrets.append(invitation.links[0].rsplit("/", 1)[1])
        ended = "received"
        async with Owner(email, password, strip_challenge) as owner:
            address = await owner.consent(invitation.links[0])

            async def done() -> bool:
                nonlocal ended
                ended = await owner.status(address)
                return ended not in {"received", "exchanging", "exchanged"}

            await until("the status page comes to an end", done)
        return ended

    async def _call(self, capability: str, text: str, *, key: str | None = None) -> JobResult:
        handle = await self._platform.call(
            self._id, capability, key=key or str(uuid4()), payload={"text": text}, by=BY, reason="the demo"
        )
        return await outcome_of(handle)

    def _status_is(self, wanted: str) -> Callable[[], Awaitable[bool]]:
        async def probe() -> bool:
            sql = "SELECT status FROM service_connections WHERE id = :id"
            found = await rows(self._sessions, sql, id=self._id)
            return bool(found) and found[0]["status"] == wanted

        return probe

    async def _active_versions(self) -> list[int]:
        sql = "SELECT version FROM service_credentials WHERE connection_id = :id AND state = 'active'"
        return [row["version"] for row in await rows(self._sessions, sql, id=self._id)]
