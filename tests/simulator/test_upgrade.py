import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from simulator.schema import VERSION
from simulator.store import Store, WrongDataVersionError
from tests.simulator.conftest import CLIENT, serving, visiting


def file_of_version_1(folder: Path) -> Path:
    path = folder / "simulator.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(Path(__file__).with_name("version_1.sql").read_text())
    return path


class TestUpgrade:
    async def test_a_file_of_version_1_is_served_on(self, tmp_path: Path) -> None:
        path = file_of_version_1(tmp_path)

        for _ in range(2):  # once upgrading, once upgraded
            with serving(path) as address:
                async with visiting(address) as simulator:
                    log = await simulator.log(path="/oauth/token")
                    grant = (await simulator.grants())[0]
                    settings = (await simulator.http.get("/admin/settings")).json()
            assert [entry["detail"]["token_fp"] for entry in log] == ["297a0019", "378949c2"]
            assert (grant["grant_id"], grant["revoked_at"]) == ("grant_of_version_1", None)
            assert (settings["access_token_ttl"], settings["echo_scope"]) == (120, True)

    async def test_its_tokens_work_on_and_nobody_knows_when_they_were_issued(self, tmp_path: Path) -> None:
        with serving(file_of_version_1(tmp_path)) as address:
            async with visiting(address) as simulator:
                told = await simulator.http.post("/oauth/introspect", data={"token": "sim_rt_the_second"}, auth=CLIENT)
                refreshed = await simulator.refresh("sim_rt_the_second")
                alive = await simulator.me(refreshed.json()["access_token"])
                own = await simulator.token(grant_type="client_credentials")

        assert told.json()["active"] is True
        assert "iat" not in told.json()
        assert refreshed.json()["scope"] == "profile notes.read"
        assert (alive.status_code, own.status_code) == (200, 200)

    def test_a_newer_file_is_refused_and_stays_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "newer.sqlite"
        store = Store(path)
        store.run(f"PRAGMA user_version = {VERSION + 1}")
        store.close()

        with pytest.raises(WrongDataVersionError, match=f"data version {VERSION + 1}"):
            Store(path)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
