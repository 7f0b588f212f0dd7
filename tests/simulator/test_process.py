import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from simulator.config import Config, ConfigError
from simulator.fault_kinds import KINDS
from tests.simulator.conftest import CALLBACK, CLIENT, Simulator, asked, returned, serving, until, visiting

ENV = {
    "SIMULATOR_CLIENT_ID": CLIENT[0],
    "SIMULATOR_CLIENT_SECRET": CLIENT[1],
    "SIMULATOR_REDIRECT_URIS": f"{CALLBACK} https://runbook.example/cb",
}


class TestRestart:
    async def test_forgets_nothing_it_was_trusted_with(self, tmp_path: Path) -> None:
        data = tmp_path / "simulator.sqlite"
        with serving(data) as address:
            async with visiting(address) as simulator:
                first = await simulator.connect()
                second = (await simulator.refresh(first["refresh_token"])).json()
                await simulator.settings(access_token_ttl=120)
                request = asked()
                redirect = await simulator.consent(request)
                log, grants = await simulator.log(), await simulator.grants()

        with serving(data) as address:
            async with visiting(address) as simulator:
                assert await simulator.grants() == grants
                assert await simulator.log() == log
                assert (await simulator.me(second["access_token"])).status_code == 200
                assert (await simulator.refresh(first["refresh_token"])).json()["refresh_token"] == (
                    second["refresh_token"]
                )
                assert (await simulator.exchange(request, redirect)).json()["expires_in"] == 120
                again = await simulator.exchange(request, redirect)
                assert again.json()["error"] == "invalid_grant"
                secrets = {row["value"] for row in (await simulator.http.get("/admin/secrets")).json()["secrets"]}
                assert {first["access_token"], returned(redirect)["code"], request.state} <= secrets


@contextmanager
def process(tmp_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = str(tmp_path / "data.sqlite")
    command = [sys.executable, "-m", "simulator", "--port", str(port), "--data", data, *arguments]
    with subprocess.Popen(command, env=os.environ | ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        try:
            yield running, f"http://127.0.0.1:{port}"
        finally:
            running.kill()


def answering(simulator: Simulator) -> Callable[[], Awaitable[bool]]:
    async def up() -> bool:
        try:
            return (await simulator.http.get("/healthz")).json() == {"ok": True}
        except httpx.ConnectError:
            return False

    return up


class TestProcess:
    @pytest.mark.parametrize("asked_to_stop", [signal.SIGTERM, signal.SIGINT])
    async def test_ends_cleanly_when_asked(self, tmp_path: Path, asked_to_stop: signal.Signals) -> None:
        with process(tmp_path) as (running, address):
            async with visiting(address) as simulator:
                await until(answering(simulator), seconds=10)
                token = await simulator.connect()
                for kind in KINDS:
                    await simulator.fault(kind=kind, count=1, seconds_hold=0.05)
                    with suppress(httpx.TransportError):
                        await simulator.me(token["access_token"])
                    assert (await simulator.last("/api/me"))["detail"]["fault"] == kind
            running.send_signal(asked_to_stop)
            output, _ = running.communicate(timeout=5)

        assert running.returncode == 0
        assert b"Traceback" not in output
        assert b"ERROR" not in output, "a fault that worked is no error of the server's"
        assert b"/api/me" not in output, "the access log is on"

    def test_help_has_an_example(self) -> None:
        shown = subprocess.run(
            [sys.executable, "-m", "simulator", "--help"], capture_output=True, text=True, check=True
        )

        assert "SIMULATOR_REDIRECT_URIS=http://127.0.0.1:8000" in shown.stdout


class TestConfig:
    def test_reads_the_environment(self) -> None:
        config = Config.from_env(ENV | {"SIMULATOR_LINKS": '{"Web UI": "http://127.0.0.1:8233"}'}, None)

        assert config.redirect_uris == {CALLBACK, "https://runbook.example/cb"}
        assert config.client_name == CLIENT[0]
        assert config.links == {"Web UI": "http://127.0.0.1:8233"}

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("SIMULATOR_CLIENT_ID", ""),
            ("SIMULATOR_CLIENT_SECRET", " "),
            ("SIMULATOR_REDIRECT_URIS", ""),
            ("SIMULATOR_REDIRECT_URIS", "javascript:alert(1)"),
            ("SIMULATOR_LINKS", "{"),
            ("SIMULATOR_LINKS", "[]"),
            ("SIMULATOR_LINKS", '{"x": "javascript:alert(1)"}'),
        ],
    )
    def test_names_the_variable_that_is_wrong(self, name: str, value: str) -> None:
        with pytest.raises(ConfigError, match=name):
            Config.from_env(ENV | {name: value}, None)


async def test_listens_on_loopback_only(simulator: Simulator, address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    assert (await simulator.http.get("/healthz")).json() == {"ok": True}
