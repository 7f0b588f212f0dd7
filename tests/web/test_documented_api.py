"""The app's own OpenAPI, searched for whatever breaks it."""

import asyncio
import contextlib
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_tables import WebhookDelivery
from tests.factories import add_channel, every
from tests.web.conftest import Site
from tests.web.vendor import SECRET
from web.app import Platform, create_app


class TestTheDocumentedApi:
    async def test_never_breaks(self, site: Site, parts: Platform, sessions: Sessions, vault: Vault) -> None:
        """Schemathesis, with what is allowed and with what is not."""
        await add_channel(sessions, vault, secret=SECRET)
        schema = schemathesis.openapi.from_dict(create_app(parts).openapi())
        seen = set[tuple[str, str, int]]()

        def search(operation: Any, mode: GenerationMode) -> None:
            @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(case=operation.as_strategy(generation_mode=mode))
            def calls(case: Any) -> None:
                if mode is GenerationMode.POSITIVE and "channel" in case.path_parameters:
                    case.path_parameters.update(provider_id="simulator", channel="app")
                answer = case.call(base_url=site.url, allow_redirects=False)
                seen.add((operation.method, operation.path, answer.status_code))
                assert answer.status_code < 500
                assert "Traceback" not in answer.text
                if operation.path.startswith("/webhooks/"):
                    assert str(answer.status_code) in operation.definition.raw["responses"]

            # Nothing is wrong with any text in the place of a token.
            with contextlib.suppress(Unsatisfiable):
                calls()

        for found in schema.get_all_operations():
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                await asyncio.to_thread(search, found.ok(), mode)

        answered = {(method, status) for method, path, status in seen if path.startswith("/webhooks/")}
        assert answered >= {("post", 401), ("post", 404), ("get", 404), ("get", 405)}
        assert await every(sessions, WebhookDelivery) == []
