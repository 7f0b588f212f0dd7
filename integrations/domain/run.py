"""Which run of which workflow did something: kept with what it changed, so that people find it in the Web UI."""

from integrations.domain.message import Message


class Run(Message):
    workflow_id: str
    run_id: str
