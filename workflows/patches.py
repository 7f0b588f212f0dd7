"""What changed in workflows that may have been running for weeks. A patch's id is in their histories: never renamed.

A branch of `workflow.patched` goes when no run older than it can be open or be queried any more: the recorded history
that guards it says since when.
"""

from enum import StrEnum


class Patch(StrEnum):
    STALE_MAY_COME_AGAIN = "reauth-stale-may-come-again"
    """2026-11: a consent whose row was not there yet is taken up when it is announced again."""
    RECONCILES_THE_OUTBOX = "reconcile-outbox"
    """2026-11: dispatchers that were ended by hand and projections without a workflow get going again."""
    RECONCILES_NOTIFICATIONS = "reconcile-notifications"
    """2026-11: the same for channels and messages."""
    FORGETS_WHAT_IS_OLD = "reconcile-old"
    """2026-11: calls of providers and retired credentials are forgotten after a week."""
    RELEASES_BRAKES = "reconcile-brakes"
    """2026-11: brakes of outages whose workflow was ended by hand are released."""
    RECONCILES_WEBHOOKS = "reconcile-webhooks"
    """2026-11: dispatchers of webhooks that were ended by hand and deliveries without a workflow get going again."""
    REFUSED_TOKEN_IS_RENEWED = "job-refused-token-is-renewed"  # noqa: S105 - a patch's name
    """2026-11: a job whose access token is refused has the connection refreshed, and is called once more."""
    TESTS_WEBHOOKS = "reconcile-webhook-self-tests"
    """2026-11: channels are tested through the ingress when their secret or their section of the catalog changes."""
