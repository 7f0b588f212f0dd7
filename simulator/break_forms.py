"""What people type into the break-it page, as the orders and changes that the admin API takes."""

from dataclasses import dataclass
from typing import Any

from simulator.fault_order import FaultOrder
from simulator.forms import Parameters
from simulator.settings import Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the settings form."""

    name: str
    value: Any
    effect: str
    is_switch: bool


def settings_lines(current: Settings) -> list[Setting]:
    return [
        Setting(name, getattr(current, name), field.description or "", field.annotation is bool)
        for name, field in Settings.model_fields.items()
    ]


def settings_changes(form: Parameters) -> dict[str, Any]:
    """All of them: a browser leaves out a box that is not ticked, and an empty field means none."""
    return {line.name: _ticked_or_typed(form, line) for line in settings_lines(Settings())}


def _ticked_or_typed(form: Parameters, line: Setting) -> Any:
    typed = form.get(line.name)
    return typed is not None if line.is_switch else typed


def fault_order(form: Parameters) -> FaultOrder:
    """An empty field means what leaving it out of an order means."""
    typed: dict[str, Any] = {name: form.get(name) for name in FaultOrder.model_fields}
    typed |= {"path": form.datalist["path"], "account_id": (form.get("account_id") or "").split()}
    return FaultOrder.model_validate({name: value for name, value in typed.items() if value})
