"""What was put off waits for the replay, and the replay for it: by rows."""

from datetime import UTC, datetime, timedelta

import pytest
from temporalio.testing import ActivityEnvironment

from activities.outage import OutageActivities
from integrations.db.session import Sessions
from integrations.db.tables import Credential
from integrations.db.vault import Vault
from integrations.domain.outage import DETECTOR, Brake, Limits, OutageRequest, Progress, Step, Target
from integrations.domain.outage_steps import Released, Releasing
from integrations.providers.oauth import Providers
from tests.factories import add_connection, add_credential, stored
from tests.outage_rows import add_outage

HOUR = timedelta(hours=1)


@pytest.fixture
def steps(sessions: Sessions, vault: Vault, providers: Providers) -> OutageActivities:
    return OutageActivities(sessions, vault, providers, Limits())


async def test_late_refreshes_are_made_due_once_and_waited_for(
    steps: OutageActivities, sessions: Sessions, vault: Vault
) -> None:
    now = datetime.now(UTC)
    kept = await add_credential(sessions, vault, (await add_connection(sessions)).id, refresh_at=now + HOUR)
    async with sessions.begin() as session:
        (await session.get_one(Credential, kept.id)).failing_since = now - HOUR
    targets = (Target(provider_id="simulator", brake=Brake.QUEUE, full=10.0),)
    outage_id = await add_outage(sessions)
    progress = Progress(outage_id=outage_id, limits=Limits(), step=Step.REPLAY, targets=targets)
    request = OutageRequest(provider_id="simulator", by=DETECTOR, reason="a test")

    async def replayed(*, begins: bool) -> tuple[Released, bool]:
        """What it says, and whether the refresh is due."""
        asked = Releasing(request=request, progress=progress, most=1, since=now, begins=begins)
        released: Released = await ActivityEnvironment().run(steps.replay, asked)
        due = (await stored(sessions, Credential, kept.id)).refresh_at
        return released, due is not None and due <= datetime.now(UTC)

    later, due = await replayed(begins=False)
    assert (later.refreshes, later.is_over, due) == (1, False, False)

    first, due = await replayed(begins=True)
    assert (first.refreshes, first.is_over, due) == (1, False, True)
    assert "1 late refreshes are to be tried" in first.words

    # It works.
    async with sessions.begin() as session:
        (await session.get_one(Credential, kept.id)).failing_since = None
    last, _ = await replayed(begins=False)
    assert last.is_over
