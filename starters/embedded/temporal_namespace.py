"""What the namespace needs beyond what the dev server's flags give it."""

from collections.abc import Mapping
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client

from starters.embedded.errors import EmbeddedError

RETENTION = timedelta(days=30)
"""How long closed workflows can still be looked at; the server's own default is one day."""


async def keep_histories(client: Client) -> None:
    """Set the namespace's retention to RETENTION; once set, nothing is written."""
    service, name = client.workflow_service, client.namespace
    found = await service.describe_namespace(DescribeNamespaceRequest(namespace=name))
    if found.config.workflow_execution_retention_ttl.ToTimedelta() != RETENTION:
        wanted = Duration()
        wanted.FromTimedelta(RETENTION)
        config = NamespaceConfig(workflow_execution_retention_ttl=wanted)
        await service.update_namespace(UpdateNamespaceRequest(namespace=name, config=config))


async def register_search_attributes(client: Client, wanted: Mapping[str, str]) -> None:
    """Register what is missing of `wanted`, name to type ("Keyword", "Int", "Datetime", ...).

    The server's flag does so only when it creates its database file, and later ignores names and types silently.
    Raises EmbeddedError for an unknown type, and for a name that has another type already.
    """
    service, name = client.operator_service, client.namespace
    listed = await service.list_search_attributes(ListSearchAttributesRequest(namespace=name))
    missing = {}
    for attribute, type_name in wanted.items():
        kind = _kind(attribute, type_name)
        present = listed.custom_attributes.get(attribute)
        if present is None:
            missing[attribute] = kind
        elif present != kind:
            found = IndexedValueType.Name(present).removeprefix("INDEXED_VALUE_TYPE_")
            raise EmbeddedError(
                f"The search attribute {attribute} is a {found} in this data folder, and {type_name} is needed; "
                "`make reset` starts afresh and loses what is in it."
            )
    if missing:
        request = AddSearchAttributesRequest(namespace=name, search_attributes=missing)
        await service.add_search_attributes(request)


def _kind(attribute: str, type_name: str) -> IndexedValueType.ValueType:
    snake = "".join(f"_{letter}" if letter.isupper() else letter for letter in type_name).lstrip("_").upper()
    try:
        return IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{snake}")
    except ValueError:
        raise EmbeddedError(f"The search attribute {attribute} has the unknown type {type_name!r}.") from None
