"""The owner's link, for whoever passes it on."""

from datetime import datetime
from uuid import UUID

from integrations.db import connections, consents
from integrations.db.session import Sessions
from integrations.db.vault import Vault, digest
from integrations.domain.errors import StopError
from integrations.settings import Settings


async def invitation_link(settings: Settings, sessions: Sessions, connection_id: UUID) -> tuple[str, datetime]:
    """The owner's link and until when it is good. Needs no Temporal: the link is derived, not stored.

    Raises StopError when nobody is invited, with how the last invitation ended.
    """
    async with sessions.begin() as session:
        row = await connections.find(session, connection_id)
        invitation = await consents.open_session(session, row.lifecycle_id) if row.lifecycle_id else None
        latest = await consents.latest(session, row.id)
    token = Vault(settings.keys).link_token(invitation.id) if invitation else ""
    if invitation is not None and digest(token) != invitation.link_hash:
        raise StopError(
            f"the root of {settings.keys.where} is not the one that this invitation was made with: its link cannot be "
            "derived here. docs/runbook/keys.md tells which file to put back"
        )
    if invitation is None:
        ended = f"; the last invitation is {latest.status}: {latest.outcome}" if latest else ""
        raise StopError(
            f"connection {row.id} is {row.status} and nobody is invited{ended}. "
            f"To invite: runbook reauth start {row.id}"
        )
    return f"{settings.web_url.rstrip('/')}/reconsent/{token}", invitation.expires_at
