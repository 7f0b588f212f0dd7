"""An outage in a few words, the same on every page."""

from datetime import UTC, datetime

from temporalio.service import RPCError

from integrations.domain.outage_page import Note, Standing
from integrations.temporal import TemporalUnreachableError
from starters.page import age
from starters.reach import Reach, no_worker_since
from starters.shell import ago, err
from workflows.queues import WORKFLOWS


def let_through(at: Standing | Note) -> str:
    """`5 % (2.5/s)`; of a trickle its rate; `all` where nobody has slowed anything down."""
    if at.percent is None and at.rate is None:
        return "all"
    rate = f" ({at.rate:.3g}/s)" if at.rate is not None else ""
    return f"{at.percent} %{rate}" if at.percent else f"a trickle{rate}"


def lease(at: Standing) -> str:
    """How long its brakes stay when nobody renews them."""
    if at.lease_until is None:
        return "-"
    left = at.lease_until - datetime.now(UTC)
    return f"ran out {ago(-left)}" if at.is_forgotten(datetime.now(UTC)) else f"{left.total_seconds():.0f} s left"


def lasted(at: Standing) -> str:
    return age(at.since, at.closed_at or datetime.now(UTC))


async def note_platform(reach: Reach) -> None:
    """Say on stderr what keeps outages from being worked on: their rows are as they were left."""
    try:
        sentence = await no_worker_since(await reach.client(), WORKFLOWS)
    except (TemporalUnreachableError, RPCError) as error:
        sentence = str(error)
    if sentence:
        err.print(f"Note: {sentence}", markup=False)
