# ruff: noqa: ANN201, UP031, RUF005 - this file must parse on Python 2.7, to be able to say that 2.7 will not do
"""Prints one sentence and exits 1 where the project cannot run, else prints nothing.

Runs before anything is installed, on whatever `python` finds: it must parse on Python 2.7 as well, hence no f-strings.
"""

import os
import platform
import sys

OLDEST, NEWEST = (3, 11), (3, 14)
MACHINES = ("x86_64", "amd64", "arm64", "aarch64")
GLIBC = (2, 28)


def problem():
    """Return what is in the way and what is needed, or None."""
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        return "This is Python %d.%d (%s), and Python 3.11 to 3.14 is needed: make PYTHON=/path/to/python3.13." % (
            version + (sys.executable,)
        )
    if platform.python_implementation() != "CPython":
        return "This is %s (%s), and CPython is needed." % (platform.python_implementation(), sys.executable)
    return platform_problem() or venv_problem()


def platform_problem():
    system, machine = platform.system(), platform.machine()
    if system not in ("Linux", "Darwin"):
        return "This is %s, and Linux or macOS is needed (on Windows: inside WSL)." % system
    if machine.lower() not in MACHINES or sys.maxsize < 2**32:
        bits = 64 if sys.maxsize > 2**32 else 32
        return "This is a %d-bit Python on %s, and a 64-bit one on x86_64 or arm64 is needed." % (bits, machine)
    if system == "Linux" and glibc() < GLIBC:
        found = "glibc %d.%d" % glibc() if glibc() != (0, 0) else "a Linux without glibc, such as Alpine"
        return "This is %s, and glibc %d.%d or newer is needed, as Debian 10 has it." % ((found,) + GLIBC)
    return None


def venv_problem():
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        package = "python%d.%d-venv" % sys.version_info[:2]
        return "%s has no venv and ensurepip (%s), and both are needed: on Debian and Ubuntu, apt install %s." % (
            sys.executable,
            error,
            package,
        )
    return None


def glibc():
    """Return its version, (0, 0) where there is none."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        major, minor = version.split(".")[:2]
    except (ValueError, OSError):
        return (0, 0)
    return (int(major), int(minor)) if name == "glibc" else (0, 0)


if __name__ == "__main__":
    found = problem()
    if found:
        print(found)
        sys.exit(1)
