"""What happens when an owner takes a permission away in the provider's own pages."""

from simulator.provider import Provider


def take_away(here: Provider, now: float, **named: str | None) -> int:
    """Revoke every live grant of this account or id, and tell subscribers of each if they are told. How many."""
    told = here.grants.live(**named) if here.settings.current.tell_revocations else []
    revoked = here.grants.revoke(now, **named)
    for grant in told:
        here.webhooks.tell("grant.revoked", {"account_id": grant.account_id, "grant_id": grant.grant_id})
    return revoked
