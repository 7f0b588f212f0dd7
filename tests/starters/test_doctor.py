"""What the doctor finds of the web app."""

from typing import Any

from starters.embedded.ports import free_port
from tests.starters.conftest import Ran, Runbook


def of_the_web(ran: Ran) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in ran.json if each["what"] == "web")
    return found


class TestTheWebApp:
    def test_is_asked_on_its_private_port_whether_it_is_ready(self, runbook: Runbook) -> None:
        found = of_the_web(runbook("doctor", "--json"))

        assert found["fine"]
        assert "/readyz: 200" in found["found"]
        assert found["fix"] == ""

    def test_that_does_not_answer_here_may_run_elsewhere(self, runbook: Runbook) -> None:
        found = of_the_web(runbook("doctor", "--json", RUNBOOK_WEB_PRIVATE_PORT=str(free_port())))

        assert found["fine"]
        assert "does not answer (ConnectError)" in found["found"]
        assert found["fix"] == "runbook web, unless it runs elsewhere"
