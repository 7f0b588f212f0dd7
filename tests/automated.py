"""What the platform may do by itself: paused, resumed, observed, and what it noted meanwhile."""

from datetime import UTC, datetime, timedelta

from integrations.db import automation
from integrations.db.automation_tables import AutomationPause
from integrations.db.session import Sessions
from integrations.db.tables import Deployment
from integrations.domain.automation import Automation, Conduct, FailureMode, Pause
from tests.factories import every

REAUTH = FailureMode.REAUTH
HOUR = timedelta(hours=1)


async def pause(sessions: Sessions, *modes: FailureMode, lease: timedelta = HOUR, by: str = "ada") -> list[Pause]:
    async with sessions.begin() as session:
        return await automation.pause(session, modes or [REAUTH], lease, by=by, reason=f"{by} looks")


async def resume(sessions: Sessions, *modes: FailureMode) -> list[FailureMode]:
    async with sessions.begin() as session:
        return await automation.resume(session, modes or [REAUTH], by="grace", reason="seen")


async def let_lapse(sessions: Sessions) -> None:
    """An hour later: nobody resumed."""
    for row in await every(sessions, AutomationPause):
        async with sessions.begin() as session:
            (await session.get_one(AutomationPause, row.id)).until = datetime.now(UTC) - timedelta(seconds=1)


async def conduct(sessions: Sessions, wanted: Conduct) -> None:
    async with sessions.begin() as session:
        if await session.get(Deployment, True) is None:
            session.add(Deployment(temporal_address="t:7233", temporal_namespace="n", embedded=None, bound_by="test"))
            await session.flush()
        await automation.conduct(session, wanted)


async def look(sessions: Sessions, limit: int = 100) -> Automation:
    async with sessions.begin() as session:
        return await automation.look(session, limit)
