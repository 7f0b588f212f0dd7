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


class TestAProviderWhoseQueueNobodyPolls:
    def test_is_no_failure_while_nothing_there_works_or_has_to_be_mended(self, runbook: Runbook) -> None:
        made = runbook("connections", "add", "xero", "--owner", "org:acme", "--json").json["connection_id"]
        runbook("connections", "disconnect", made)

        ran = runbook("doctor", "--json")

        assert ran.code == 0
        [found] = [each for each in ran.json if "provider-xero" in each["found"]]
        assert (found["what"], found["fine"]) == ("worker", True)
        assert "runbook worker" in found["fix"]
