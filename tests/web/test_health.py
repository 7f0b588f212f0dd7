"""What whoever restarts processes is told."""

from sqlalchemy.engine import make_url

from integrations.db.session import make_engine, make_sessions
from starters.embedded.ports import free_port
from tests.web.conftest import Serve, Site
from web.app import Platform


class TestHealth:
    async def test_is_alive_and_ready(self, site: Site) -> None:
        async with site.browser() as probe:
            alive, ready = await probe.get("/healthz"), await probe.get("/readyz")

        assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
        assert (ready.status_code, ready.json()) == (200, {"database": "ok", "temporal": "ok"})

    async def test_takes_consents_without_temporal_and_says_that_it_is_gone(self, dark_site: Site) -> None:
        async with dark_site.browser() as probe:
            alive, ready = await probe.get("/healthz"), await probe.get("/readyz")

        assert alive.status_code == 200
        assert ready.status_code == 200
        assert ready.json()["database"] == "ok"
        assert "does not answer" in ready.json()["temporal"]

    async def test_is_alive_but_not_ready_without_a_database_and_says_so(
        self, parts: Platform, serve: Serve, database_url: str
    ) -> None:
        """Nobody listens; or somebody does, and there is no such database."""
        nobody = make_url(database_url).set(host="127.0.0.1", port=free_port(), query={})
        no_such = make_url(database_url).set(database="nothing_here")
        for url in (nobody, no_such):
            engine = make_engine(url.render_as_string(hide_password=False))
            base_url = f"http://127.0.0.1:{free_port()}"
            await serve(Platform(make_sessions(engine), parts.vault, parts.providers, parts.temporal, base_url))

            async with Site(base_url, parts.sessions, parts.vault).browser() as probe:
                alive, ready = await probe.get("/healthz"), await probe.get("/readyz")
            await engine.dispose()

            assert alive.status_code == 200
            assert ready.status_code == 503
            assert "does not answer" in ready.json()["database"]
            assert ready.json()["temporal"] == "ok"
