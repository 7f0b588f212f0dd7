"""What the lifecycles of connections have been told, read back from Temporal: no worker runs."""

import asyncio
from typing import cast

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from integrations.db.tables import Connection
from integrations.domain.connection import reauth_id
from integrations.domain.reauth import ReauthRequest


class Told:
    """What a connection's lifecycle has been told."""

    def __init__(self, env: WorkflowEnvironment) -> None:
        self._env = env
        self.opened: set[str] = set()

    async def listed(self, connection: Connection) -> None:
        """Wait until the server's list, which lags behind, has it."""
        workflow_id = reauth_id(connection.provider_id, connection.id)
        self.opened.add(workflow_id)
        query = f"WorkflowId = '{workflow_id}' AND ExecutionStatus = 'Running'"
        async with asyncio.timeout(20):
            while not [run async for run in self._env.client.list_workflows(query)]:
                await asyncio.sleep(0.05)

    async def signals(self, connection: Connection) -> list[str]:
        workflow_id = reauth_id(connection.provider_id, connection.id)
        self.opened.add(workflow_id)
        history = await self._env.client.get_workflow_handle(workflow_id).fetch_history()
        wanted = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        return [
            e.workflow_execution_signaled_event_attributes.signal_name for e in history.events if e.event_type == wanted
        ]

    async def request(self, connection: Connection) -> ReauthRequest:
        """What it was begun with."""
        workflow_id = reauth_id(connection.provider_id, connection.id)
        self.opened.add(workflow_id)
        history = await self._env.client.get_workflow_handle(workflow_id).fetch_history()
        payloads = history.events[0].workflow_execution_started_event_attributes.input.payloads
        [found] = await self._env.client.data_converter.decode(list(payloads), [ReauthRequest])
        return cast("ReauthRequest", found)

    async def close(self) -> None:
        """End what was opened."""
        for workflow_id in self.opened:
            handle = self._env.client.get_workflow_handle(workflow_id)
            if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                await handle.terminate()
