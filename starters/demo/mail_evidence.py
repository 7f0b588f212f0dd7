"""Evidence that an owner was told, read from their mailbox: the mails, their buttons, and what became of the links."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from integrations.db.session import Sessions
from starters.demo.check import Check, Name, judged
from starters.demo.evidence import rows, words
from starters.demo.mail import letters
from starters.demo.simulator import Simulator

GOOD_NEWS: Final = "Simulator works again"
"""The last mail's subject."""


async def dispatches(sessions: Sessions, connection_id: UUID) -> list[dict[str, Any]]:
    """What was to be told of a connection, and what became of that."""
    sql = """SELECT event.name, coalesce(item.definition, event.name) AS definition,
        coalesce(item.status, 'to be told') AS status
      FROM service_lifecycle_outbox AS event LEFT JOIN service_notification_dispatches AS item USING (event_id)
      WHERE event.connection_id = :id AND (item.id IS NOT NULL OR event.name = 'reauth.invited') ORDER BY event.seq"""
    return await rows(sessions, sql, id=connection_id)


async def owner_told(
    simulator: Simulator, sessions: Sessions, connection_id: UUID, mailbox: str, followed: Sequence[str]
) -> Check:
    """`followed`: the links that people opened, all of them taken from mails."""
    arrived = await letters(simulator, mailbox)
    invitations = [letter for letter in arrived if letter.asks]
    told = await dispatches(sessions, connection_id)
    asked = [each for each in told if each["name"] == "reauth.invited" and each["status"] == "delivered"]
    links = [letter.links[0] for letter in invitations]
    subjects = [letter.subject for letter in arrived]
    return judged(
        Name.OWNER_TOLD,
        {
            "each invitation is one mail": len(invitations) == len(asked) > 0,
            "with one button": all(len(letter.links) == 1 for letter in invitations),
            "and the same link as plain text": all(
                link in mail.text for mail, link in zip(invitations, links, strict=True)
            ),
            "nobody came by another link": set(followed) <= set(links) and len(set(links)) == len(links),
            "the good news came, once": subjects.count(GOOD_NEWS) == 1,
            "last": subjects[-1:] == [GOOD_NEWS],
        },
        f"mailbox: {words(f'“{subject}”' for subject in subjects)}; {len(invitations)} of them with one button each, "
        f"{len(set(followed) & set(links))} of {len(set(followed))} consents came by these; database: "
        f"{words(each['definition'] + ' ' + each['status'] for each in told)}",
    )
