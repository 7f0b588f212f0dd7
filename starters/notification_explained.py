"""An explanation on the screen."""

from integrations.domain.notification_explained import Became, Explained, Mapped, Reader
from integrations.settings import Settings
from integrations.temporal import ui_link
from starters.shell import fields, moment, out, table

_BECAME = ("DISPATCH", "DEFINITION", "TO", "BY", "STATUS", "ATTEMPTS", "WHY", "WORKFLOW")


def show(explained: Explained, config: Settings) -> None:
    connection = f", connection {explained.connection_id}" if explained.connection_id else ""
    fields(
        [
            ("event", f"{explained.event_id}  {explained.name}, {moment(explained.occurred_at)}"),
            ("of", f"{explained.provider} of {explained.tenant}{connection}"),
            ("order", f"number {explained.seq} of {explained.order_key}"),
            ("it", explained.says),
            *([("next", explained.next)] if explained.next else []),
        ]
    )
    for mapped in explained.mapped:
        out.print()
        _mapped(mapped)
    out.print()
    table(_BECAME, [_became(each, config) for each in explained.became], none="No message came of it yet.")


def _mapped(mapped: Mapped) -> None:
    each = "by each of" if mapped.mode == "all" else "by the first that can of"
    fields(
        [
            ("definition", f"{mapped.definition}  ({mapped.pattern} in {mapped.file})"),
            ("tells", f"{mapped.audience}, {each} {', '.join(mapped.channels)}"),
            ("news until", mapped.news_until),
            *([("old", f"{mapped.old}: dropped")] if mapped.old else []),
            *([("nobody", mapped.nobody)] if mapped.nobody else []),
        ]
    )
    for number, reader in enumerate(mapped.readers):
        _reader(reader, with_text=number == 0)
    if len(mapped.readers) > 1:
        out.print("  The others read the same, each by their name.")


def _reader(reader: Reader, *, with_text: bool) -> None:
    out.print(f"  {reader.recipient}", markup=False)
    for way in reader.ways:
        address = f" at {way.address}" if way.address else ""
        out.print(f"    {way.channel}{address}: {way.state}", markup=False)
    if reader.unreached:
        out.print(f"    not told: {reader.unreached}", markup=False)
    if reader.due_at:
        out.print(f"    due {moment(reader.due_at)}", markup=False)
    if reader.mistake:
        out.print(f"    {reader.mistake}", markup=False)
    if with_text and reader.subject:
        out.print()
        for line in (reader.subject, "", *reader.text.splitlines()):
            out.print(f"    | {line}".rstrip(), markup=False)
        out.print()


def _became(each: Became, config: Settings) -> tuple[object, ...]:
    workflow = (ui_link(config, each.workflow_id) or each.workflow_id) if each.workflow_id else "-"
    return (
        each.id,
        each.definition,
        each.recipient or "nobody",
        each.channel,
        each.status,
        each.attempts,
        each.error or each.cause,
        workflow,
    )
