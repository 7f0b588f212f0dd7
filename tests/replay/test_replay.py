"""Every recorded history replays with today's code, and the gate that says so bites."""

from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from integrations.domain.refresh import Refreshed, RefreshRequest
from tests.replay.record import HISTORIES, SCENARIOS
from worker.plugin import runbook_plugin
from worker.wiring import WORKFLOW_CLASSES
from workflows.refresh import RefreshWorkflow

RECORDED = sorted(HISTORIES.glob("*/*.json"))


def history(file: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(f"{file.parent.name}-{file.stem}", file.read_text(encoding="utf-8"))


class TestARecordedHistory:
    @pytest.mark.parametrize("file", RECORDED, ids=lambda file: f"{file.parent.name}/{file.stem}")
    async def test_replays_with_todays_code(self, file: Path) -> None:
        replayer = Replayer(workflows=WORKFLOW_CLASSES, plugins=[runbook_plugin()])

        await replayer.replay_workflow(history(file))

    def test_exists_for_every_workflow_and_every_scenario(self) -> None:
        recorded = {f"{file.parent.name}/{file.stem}" for file in RECORDED}

        assert recorded >= set(SCENARIOS)
        assert {file.parent.name for file in RECORDED} == {
            workflow._Definition.must_from_class(each).name for each in WORKFLOW_CLASSES
        }


@workflow.defn(name="RefreshWorkflow", sandboxed=False)
class Reordered(RefreshWorkflow):
    """As if somebody had moved the wait before the first refresh."""

    @workflow.init
    def __init__(self, request: RefreshRequest) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: RefreshRequest) -> Refreshed:
        await workflow.sleep(request.confirm_after)
        return await super().run(request)


class TestTheGate:
    async def test_bites_when_two_steps_change_places(self) -> None:
        replayer = Replayer(workflows=[Reordered], plugins=[runbook_plugin()])

        with pytest.raises(NondeterminismError):
            await replayer.replay_workflow(history(HISTORIES / "RefreshWorkflow" / "confirmed.json"))
