"""A made-up vendor that does everything in its own way, as a catalog entry whose facts can be changed one by one."""

import tomllib
from copy import deepcopy
from typing import Any

from integrations.providers.entry import Provider

ENTRY = """
name = "Acme"
docs = ["https://acme.example/docs"]
authorize_url = "https://acme.example/login/{region}/authorize"
token_url = "https://acme.example/login/{region}/token"
revoke_url = "https://acme.example/login/{region}/revoke"
introspect_url = "https://acme.example/login/{region}/introspect"
authorize_parameters = { access_type = "offline" }
exchange_parameters = { expiring = "1" }
scope_separator = ","
granted_field = "permissions"
always_ask = ["offline"]
implied = { "things.write" = ["things.read"] }
pkce = true
token_auth = "basic"
client_id_parameter = "client_key"
token_header = "X-Acme-Token"
token_prefix = "acme:"
api_headers = { X-Acme-Version = "2", X-Acme-Tenant = "{tenant}" }
identity = { url = "https://{instance}/me?of={realm}", field = "data.user.id", name_field = "data.user.name" }
rotates_refresh_token = true
rotation_grace = "1m"
refresh_lead = "15m"
assumed_life = "2h"
terminal_errors = ["grant_gone"]
quota = { remaining = "X-Acme-Left", reset = "X-Acme-Reset" }

[errors]
at = ["error.code"]
none = ["ok"]
scope = ["no_permission"]
token = ["token_old"]
operator = ["bad_client"]
throttled = ["slow"]
busy = ["tired"]

[capabilities."things.read"]
access = "read"
requires = ["things.read"]
optional = ["things.extra"]
call = { method = "GET", url = "https://{instance}/things?limit=50" }
probe = { method = "GET", url = "https://{instance}/things?limit=1" }

[capabilities."things.write"]
access = "write"
requires = ["things.write"]
call = { method = "POST", url = "https://{instance}/things" }
probe = { method = "POST", url = "https://{instance}/things/query" }

[capabilities."files.read"]
access = "read"
call = { method = "GET", url = "https://{instance}/files/one", answers = "any" }
probe = { method = "GET", url = "https://{instance}/files" }

[variables.region]
source = "connection"
pattern = "[a-z]{2}-[0-9]"

[variables.realm]
source = "callback"
field = "realmId"
pattern = "[0-9]{4,30}"

[variables.instance]
source = "token"
field = "host.url"
pattern = 'https://([a-z]{3}\\.acme\\.example)/?'

[variables.tenant]
source = "identity"
field = "data.tenant"

[webhook]
scheme = "hmac-sha256"
header = "X-Acme-Signature"
event = ["body:type"]
"""


def acme(changes: dict[str, Any] | None = None) -> Provider:
    """The entry with some facts changed: by key, the parts of its name parted by slashes; None takes it away."""
    entry: dict[str, Any] = deepcopy(tomllib.loads(ENTRY))
    for key, value in (changes or {}).items():
        *way, last = key.split("/")
        table = entry
        for step in way:
            table = table.setdefault(step, {})
        if value is None:
            del table[last]
        else:
            table[last] = value
    return Provider.model_validate({"id": "acme"} | entry)
