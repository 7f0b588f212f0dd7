"""Which dispatches filters mean, and what would come of replaying each by what is known now."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    Text,
    bindparam,
    case,
    column,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from integrations.db.contact_addresses import OF_RECIPIENT
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.notification_tables import NotificationDispatch
from integrations.db.outbox_matching import narrowed
from integrations.db.wildcards import like
from integrations.domain.filters import Filters
from integrations.domain.ledger import ItemStatus
from integrations.domain.notification import Definition

_DEAD: Final = ("dead", "nobody")
SEND: Final = "send"


def matching(filters: Filters) -> Select[*tuple[Any, ...]]:
    """The columns that a plan is made of, and those that tell what would come of it. `limit` is left to the caller.

    What reached nobody is dead too. Raises WrongUsageError for filters that cannot be meant.
    """
    filters.check()
    event, item = OutboxEvent, NotificationDispatch
    statuses = [
        word for status in filters.statuses for word in (_DEAD if status is ItemStatus.DEAD else (status.value,))
    ]
    found: Select[*tuple[Any, ...]] = (
        select(
            item.part,
            item.position,
            item.id.label("item_id"),
            item.channel.label("destination"),
            item.cause,
            event.provider_id.label("provider"),
            event.occurred_at,
            item.definition,
            item.version,
            item.recipient.label("reader"),
            item.failed_at,
            item.expires_at,
            event.order_key,
            event.seq,
        )
        .join_from(item, event, event.event_id == item.event_id)
        .where(item.status.in_(statuses))
    )
    if filters.cause is not None:
        found = found.where(
            or_(item.fingerprint == filters.cause, item.cause.startswith(filters.cause, autoescape=True))
        )
    for name in ("channel", "definition", "recipient"):
        wanted = getattr(filters, name)
        if wanted is not None:
            found = found.where(getattr(item, name) == wanted)
    return narrowed(found, filters)


def judged(found: CTE, definitions: Iterable[Definition]) -> Mapping[str, ColumnElement[str]]:
    """Of each item: whether it would be sent, and what has changed of its recipient and its templates since."""
    definition = _told(definitions)

    def of_definition(name: str) -> Any:
        # Said, since it also stands in a query within the query: there `found` would be one of its own.
        mine = select(definition.c[name]).where(definition.c.id == found.c.definition)
        return mine.correlate(found).scalar_subquery()

    def is_any_of(event: Any, patterns: str) -> ColumnElement[bool]:
        # With the cast it is one array. Without, it would be a query whose rows are arrays.
        return cast(ColumnElement[bool], event.like(func.any(sql_cast(of_definition(patterns), ARRAY(Text)))))

    later = (
        select(OutboxEvent.name)
        .where(
            OutboxEvent.order_key == found.c.order_key,
            OutboxEvent.seq > found.c.seq,
            is_any_of(OutboxEvent.name, "old"),
        )
        .order_by(OutboxEvent.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    whose = OF_RECIPIENT.format(recipient=f"{found.name}.reader", channel=f"{found.name}.destination")
    changed_at: ColumnElement[Any] = literal_column(
        f"(SELECT changed_at FROM service_contact_addresses AS address WHERE {whose})"  # noqa: S608 - ours
    )
    gone, nobody, unreached = of_definition("id").is_(None), found.c.destination == "", changed_at.is_(None)
    return {
        "verdict": case(
            (gone, literal("drop: its definition is gone")),
            (is_any_of(later, "own"), literal("collapse: into a later ").concat(later)),
            (later.is_not(None), literal("drop: superseded by ").concat(later)),
            (found.c.expires_at <= func.now(), literal("drop: no news any more")),
            (nobody, literal(SEND)),
            (unreached, literal("nobody: no such address any more")),
            else_=literal(SEND),
        ),
        "recipient": case(
            (nobody, literal("had nobody: looked up again")),
            (unreached, literal("has no such address any more")),
            (changed_at > found.c.failed_at, literal("address changed since")),
            else_=literal("same"),
        ),
        "template": case(
            (gone, literal("its definition is gone")),
            (found.c.version.is_(None), literal("never rendered")),
            (found.c.version == of_definition("version"), literal("same")),
            else_=literal("changed since"),
        ),
    }


def _told(definitions: Iterable[Definition]) -> CTE:
    """The definitions as rows: read once, however many items there are."""
    told = [
        {
            "id": each.id,
            "version": each.version,
            "old": list(map(like, each.superseded_by)),
            "own": list(map(like, each.events)),
        }
        for each in definitions
    ]
    rows = (
        func.jsonb_to_recordset(bindparam(None, told, JSONB))
        .table_valued(
            column("id", Text), column("version", Text), column("old", ARRAY(Text)), column("own", ARRAY(Text))
        )
        .render_derived(name="told", with_types=True)
    )
    return select(rows).cte("definition")
