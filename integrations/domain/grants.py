"""What a new set of grants means for a connection that had another one."""

from collections.abc import Iterable

from integrations.domain.message import Message


class Change(Message):
    """Only grants that some capability wants count: providers add scopes of their own, or leave some unsaid."""

    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Those of the lost that a capability requires: the owner has to give them back."""

    def __bool__(self) -> bool:
        return bool(self.gained or self.lost)

    @property
    def kind(self) -> str:
        """The grant event that tells of it. A loss is the graver news."""
        return "downgraded" if self.lost else "expanded"

    @property
    def words(self) -> str:
        parts = [f"lost {', '.join(self.lost)}"] if self.lost else []
        parts += [f"gained {', '.join(self.gained)}"] if self.gained else []
        return " and ".join(parts) or "unchanged"


def compare(before: Iterable[str], after: Iterable[str], *, wanted: Iterable[str], optional: Iterable[str]) -> Change:
    had, has, known = set(before), set(after), set(wanted)
    lost = (had - has) & known
    return Change(
        gained=tuple(sorted((has - had) & known)),
        lost=tuple(sorted(lost)),
        missing=tuple(sorted(lost - set(optional))),
    )
