"""What a demo's check is, and the names of all of them, which are also what `--sabotage` takes."""

from collections.abc import Callable
from enum import StrEnum

from integrations.domain.message import Message


class Name(StrEnum):
    CONNECTED_WITH_PKCE = "connected_with_pkce"
    REVOCATION_CONFIRMED = "revocation_confirmed"
    PENDING_REAUTH = "pending_reauth"
    WRITE_BLOCKED = "write_blocked"
    WORKER_KILLED_UNHARMED = "worker_killed_unharmed"
    OTHER_ACCOUNT_REFUSED = "other_account_refused"
    REPAIRED_NEW_VERSION = "repaired_new_version"
    CAPABILITY_SUCCEEDED = "capability_succeeded"
    OWNER_TOLD = "owner_told"
    STORM_HARMED_NOBODY = "storm_harmed_nobody"
    REVOKED_FOUND_AMONG_MANY = "revoked_found_among_many"
    BACKLOG_DRAINED = "backlog_drained"
    ORDER_KEPT = "order_kept"
    POISON_ISOLATED = "poison_isolated"
    DEAD_REPLAYED = "dead_replayed"
    MESSAGES_GIVEN_UP = "messages_given_up"
    MESSAGES_REPLAYED = "messages_replayed"
    OUTAGE_CONTAINED = "outage_contained"
    OUTAGE_HARMED_NOBODY = "outage_harmed_nobody"
    OUTAGE_HEALED = "outage_healed"
    PARKED_DONE_ONCE = "parked_done_once"
    WEBHOOKS_ONCE = "webhooks_once"
    REVOCATION_TOLD = "revocation_told"
    BURST_COALESCED = "burst_coalesced"
    WEBHOOKS_REPLAYED = "webhooks_replayed"
    NO_SECRETS = "no_secrets"


class Check(Message):
    name: Name
    passed: bool
    evidence: str
    """What was seen, and where: never in the code that acted."""


Tell = Callable[[str], None]


def judged(name: Name, conditions: dict[str, bool], evidence: str) -> Check:
    """A check of several conditions: the evidence names those that did not hold."""
    broken = [condition for condition, held in conditions.items() if not held]
    return Check(name=name, passed=not broken, evidence=f"NOT: {'; '.join(broken)}. {evidence}" if broken else evidence)
