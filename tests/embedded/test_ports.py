import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from starters.embedded.errors import EmbeddedError
from starters.embedded.ports import choose_ports, free_ports


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_restart_gets_the_same_ports(tmp_path: Path) -> None:
    first = choose_ports(tmp_path, {"web": None, "ui": None})

    assert choose_ports(tmp_path, {"web": None, "ui": None}) == first


def test_a_remembered_port_that_is_taken_is_replaced(tmp_path: Path, taken_port: int) -> None:
    (tmp_path / "ports.json").write_text(f'{{"web": {taken_port}}}')

    assert choose_ports(tmp_path, {"web": None})["web"] != taken_port


def test_a_port_asked_for_and_taken_is_refused_with_its_holder(tmp_path: Path, taken_port: int) -> None:
    with pytest.raises(EmbeddedError, match=rf"Port {taken_port} for web is taken by .*\(pid {os.getpid()}\)"):
        choose_ports(tmp_path, {"web": taken_port})


def test_one_port_is_not_given_to_two_names(tmp_path: Path) -> None:
    (port,) = free_ports(1)

    with pytest.raises(EmbeddedError, match=f"Port {port} for ui is taken"):
        choose_ports(tmp_path, {"web": port, "ui": port})


def test_half_a_file_of_ports_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text('{"web": 2')

    assert choose_ports(tmp_path, {"web": None})["web"] > 0


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(50))) == 50
