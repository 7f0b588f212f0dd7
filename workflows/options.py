"""Every timeout and every retry policy. Temporal retries; nothing else does."""

from datetime import timedelta
from typing import Final, NotRequired, TypedDict

from temporalio.common import RetryPolicy

from integrations.domain.notification_delivery import SHORT, WHOLE_MOST
from integrations.domain.outbox import Retrying


class Timing(TypedDict):
    """How long a step may take and how it is retried. What a step is called is said where it is called."""

    start_to_close_timeout: timedelta
    heartbeat_timeout: NotRequired[timedelta]
    retry_policy: RetryPolicy


class LocalTiming(TypedDict):
    """The same for what is done in the workflow's own task, with its retries."""

    schedule_to_close_timeout: timedelta
    retry_policy: RetryPolicy


DATABASE: Final = Timing(
    # A few statements. Postgres may be down for long: state changes wait for it and are never given up.
    start_to_close_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)

DATABASE_LOCALLY: Final = LocalTiming(
    # Shorter than what the SDK warns of. A database that takes longer is waited for by an activity.
    schedule_to_close_timeout=timedelta(seconds=4),
    retry_policy=RetryPolicy(maximum_attempts=1),
)

_OUTLASTS_AN_OUTAGE: Final = RetryPolicy(
    # No maximum_attempts: an outage is waited for, not counted. Retry-After comes as next_retry_delay.
    initial_interval=timedelta(seconds=2),
    maximum_interval=timedelta(minutes=5),
)

PROVIDER_CALL: Final = Timing(
    # One HTTP call of at most 8 s and its database steps.
    start_to_close_timeout=timedelta(seconds=15),
    retry_policy=_OUTLASTS_AN_OUTAGE,
)

REFRESH_ENDS: Final = Timing(
    # It listens for two seconds, which most refreshes need less than, and asks again later: no slot is held for long.
    start_to_close_timeout=timedelta(seconds=10),
    # No maximum_attempts: the refresh waits for an outage, and this waits for the refresh.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)

DETECT: Final = Timing(
    # Two counts by a key's last part, some rows, and a start for each outage that is found.
    start_to_close_timeout=timedelta(seconds=30),
    # No maximum_attempts: there is one detector, and a database that is down is waited for. A look that failed is
    # repeated about as often as there are looks.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15)),
)

SWEEP: Final = Timing(
    # A count by an index, and a start for each provider at which something is due.
    start_to_close_timeout=timedelta(seconds=30),
    # The next minute's sweep is the retry that matters.
    retry_policy=RetryPolicy(maximum_attempts=3),
)

REFRESH_CHUNK: Final = Timing(
    # Calls are begun for 15 s and take 8 s at most; then what failed gets workflows of its own.
    start_to_close_timeout=timedelta(minutes=1),
    heartbeat_timeout=timedelta(seconds=10),
    retry_policy=_OUTLASTS_AN_OUTAGE,
)

OUTAGE_STEP: Final = Timing(
    # Some statements, a word to a task queue, and while it is scoped a few probes of at most 8 s beside each other.
    start_to_close_timeout=timedelta(minutes=1),
    # A killed worker's step is begun again soon: until then nobody renews the leases.
    heartbeat_timeout=timedelta(seconds=10),
    # No maximum_attempts: the database or Temporal may be down for long, and what is on has to come off.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15)),
)

OUTAGE_PROBE: Final = Timing(
    start_to_close_timeout=timedelta(seconds=30),
    heartbeat_timeout=timedelta(seconds=10),
    # A failed probe is an answer: the next one is the workflow's, by a durable timer.
    retry_policy=RetryPolicy(maximum_attempts=1),
)

CONSENT: Final = Timing(
    # Two or three HTTP calls (token and identity, or the probes) and their database steps, while a person waits.
    start_to_close_timeout=timedelta(seconds=30),
    # The person looks at a page meanwhile: a killed worker's step is begun again soon.
    heartbeat_timeout=timedelta(seconds=5),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)

ANNOUNCE: Final = Timing(
    # A row is read, a signal sent.
    start_to_close_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)

RECONCILE: Final = Timing(
    start_to_close_timeout=timedelta(minutes=10),
    # It says that it lives after each page; a killed worker's sweep starts anew soon.
    heartbeat_timeout=timedelta(seconds=30),
    # The next minute's sweep is the retry that matters.
    retry_policy=RetryPolicy(maximum_attempts=3),
)

REENCRYPT: Final = Timing(
    # Some ten thousand rows, or a count of all of them: a second or two, minutes on a database that is in trouble.
    start_to_close_timeout=timedelta(minutes=10),
    # It says how far it is after each thousand rows; a killed worker's step is taken up from there.
    heartbeat_timeout=timedelta(seconds=10),
    # No maximum_attempts: a database that is down, or a key that a person has to bring, is waited for.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)

DRAIN: Final = Timing(
    # It returns every five minutes; this is for one that hangs and beats all the same.
    start_to_close_timeout=timedelta(minutes=10),
    # A killed worker's partitions are free at once, and taken up after this.
    heartbeat_timeout=timedelta(seconds=5),
    # The database may be down for long. Never given up.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)


def delivery(retrying: Retrying, tried: int) -> Timing:
    """The attempts at one projection or delivery: those that are left after the ones before."""
    return Timing(
        # A few statements. An item that ends the process shows itself by this.
        start_to_close_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(
            initial_interval=retrying.first,
            maximum_interval=retrying.most,
            maximum_attempts=max(1, retrying.attempts - tried),
        ),
    )


def sending_locally(retrying: Retrying, tried: int, *, waited: bool) -> LocalTiming:
    """The attempts after short waits, in the workflow's own task: at least one.

    `waited`: the first wait was before the workflow. Otherwise the last try in the flow counts as an attempt here.
    """
    return LocalTiming(
        # For all of them. The SDK forgets to stop the clock of a single one that failed.
        schedule_to_close_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(
            initial_interval=retrying.wait(tried + 1 if waited else tried),
            maximum_interval=retrying.most,
            maximum_attempts=local_attempts(retrying, tried) + (not waited),
        ),
    )


def local_attempts(retrying: Retrying, tried: int) -> int:
    """How many of the attempts that are left may be made within one task: their waits are short together."""
    last, waited = tried + 1, retrying.wait(tried)
    while last < retrying.attempts and (waited := waited + retrying.wait(last)) <= SHORT:
        last += 1
    return last - tried


def sending(retrying: Retrying, tried: int, *, whole: bool) -> Timing:
    """One message's attempts: those that are left after `tried` ones. The first wait was before.

    `whole`: where it goes to is out for all. That says nothing of this message, which uses up no attempts, and is tried
    often enough that the others go on soon after. Until when it is news bounds both.
    """
    most = min(retrying.most, WHOLE_MOST) if whole else retrying.most
    return Timing(
        # One message of at most 10 s, and a few statements.
        start_to_close_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(
            initial_interval=min(retrying.wait(tried + 1), most),
            maximum_interval=most,
            maximum_attempts=0 if whole else max(1, retrying.attempts - tried),
        ),
    )


REPLAY_CHECK: Final = Timing(
    # A hash over all of a plan's items, or what matches its filters by now: seconds for a million.
    start_to_close_timeout=timedelta(minutes=5),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)

REPLAY_WATCH: Final = Timing(
    # It returns every five minutes; this is for one that hangs and beats all the same.
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(seconds=5),
    # The database may be down for long: what it waits for is done by the drain, which waits for it too.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)
