"""The image: what goes into it, and that it is the same each time."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_both_stages_have_the_same_pinned_python() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])


def test_every_package_comes_by_its_hash() -> None:
    installs = re.findall(r"pip install (.+)$", DOCKERFILE, re.MULTILINE)

    assert all("--require-hashes" in options or options == "--no-deps --no-build-isolation ." for options in installs)
    assert "PIP_NO_CACHE_DIR=1" in DOCKERFILE


def test_process_is_not_root() -> None:
    last = re.findall(r"^USER (\S+)", DOCKERFILE.rpartition("FROM ")[2], re.MULTILINE)[-1]

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last)


def test_context_holds_every_package_and_nothing_else() -> None:
    packages = [pattern.removesuffix("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]

    allowed = {line.removeprefix("!") for line in IGNORED if line.startswith("!")}

    assert "*" in IGNORED
    assert allowed == {*packages, "pyproject.toml", "requirements.txt", PROJECT["project"]["readme"]}


def test_compose_names_the_image_by_this_release() -> None:
    compose = (ROOT / "docker-compose.temporal.yml").read_text()

    assert re.findall(r"integrations-runbook:(\S+)", compose) == [PROJECT["project"]["version"]]
