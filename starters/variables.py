"""What completes a provider's addresses for one connection, such as a shop's name."""

from collections.abc import Mapping

from integrations.domain.errors import WrongUsageError
from integrations.domain.nearest import nearest
from integrations.providers.entry import Provider


def checked(provider: Provider, given: Mapping[str, str]) -> dict[str, str]:
    """The values as the entry reads them. Raises WrongUsageError for one that is unknown, missing or malformed."""
    wanted = provider.told_by("connection")
    for name in given:
        if name not in wanted:
            raise WrongUsageError(f"{provider.name} has no variable {name!r} to be set{nearest(name, wanted)}")
    for name, variable in wanted.items():
        if name not in given and (variable.default is not None or not variable.required):
            continue
        if name not in given:
            about = f" ({variable.about})" if variable.about else ""
            raise WrongUsageError(f"{provider.name} needs {name!r}{about}: give it with --set {name}=...")
        if variable.read(given[name]) is None:
            raise WrongUsageError(f"{name}={given[name][:80]!r} does not look like {variable.pattern}")
    return {name: wanted[name].read(value) or "" for name, value in given.items()}
