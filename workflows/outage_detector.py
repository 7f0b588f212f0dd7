"""The detector: looks at recorded calls every few seconds, for as long as there is a platform.

look ──▶ timer ──▶ look ──▶ …     what it finds gets a row and a workflow of its own: ProviderOutageWorkflow
"""

from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.outage_detector import OutageDetectorActivities
    from integrations.domain.outage import Looked
    from workflows.options import DETECT

_LOOKS: Final = 100
"""Of one run: some half an hour, after which its history starts anew."""


@workflow.defn(name="OutageDetectorWorkflow")
class OutageDetectorWorkflow:
    def __init__(self) -> None:
        self._last: Looked | None = None

    @workflow.run
    async def run(self) -> None:
        for _ in range(_LOOKS):
            self._last = await workflow.execute_activity_method(
                OutageDetectorActivities.look, summary=self._summary(), activity_id="look", **DETECT
            )
            self._show(self._last)
            await workflow.sleep(self._last.every, summary="until the next look")
        workflow.continue_as_new()

    def _summary(self) -> str:
        if self._last is None or not self._last.failing:
            return "whose calls fail"
        return f"found before: {'; '.join(self._last.failing)}"[:200]

    def _show(self, looked: Looked) -> None:
        lines = ["- ▶ looks for outages, always on", f"- **last look**: {workflow.now():%Y-%m-%d %H:%M:%S} UTC"]
        lines += [f"- **found now**: {each}" for each in looked.failing] or ["- nothing is found now"]
        if looked.why_not is not None:
            lines.append(f"- **only looked at**: {looked.why_not}")
        workflow.set_current_details("\n".join([*lines, "", "How it stands: `runbook outage status`"]))
