"""`runbook connections webhook-secret`: where a provider may send webhooks to, and what it signs them with."""

import base64
import os
from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID

import typer

from integrations.db import connections, keys, webhook_channels, webhook_secrets
from integrations.db.vault import Vault
from integrations.db.webhook_channels import read_channel
from integrations.domain.durations import duration
from integrations.domain.errors import WrongUsageError
from integrations.providers import catalog
from integrations.providers.entry import Provider, Webhook
from integrations.providers.webhooks.greeting import verify_token
from integrations.providers.webhooks.secret import trouble_of
from starters.one_line import typed
from starters.reach import changing
from starters.shell import By, Json, Reason, as_json, because, command, out

_BYTES: Final = 32
_LONGEST_OVERLAP: Final = timedelta(days=30)
_MARK: Final = "whsec_"
"""As Standard Webhooks writes a secret; for every other scheme it is a text like any."""


@command
async def webhook_secret(
    connection_id: UUID,
    by: By,
    channel: Annotated[str, typer.Option(help="A name: one channel for all of the provider's connections.")] = "",
    generate: Annotated[bool, typer.Option("--generate", help="Make a secret and show it, once.")] = False,
    overlap: Annotated[str, typer.Option(help="How long the secret before is accepted beside it.")] = "24h",
    retire: Annotated[bool, typer.Option("--retire", help="Forget all but the newest now; takes no secret.")] = False,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Take webhooks of a connection, signed with this secret, and print the address to register at the provider.

    The provider's secret is read from stdin, or asked for; with --generate one is made, for providers that are told
    theirs. Until the overlap is over the secret before is accepted too. Safe to repeat.

    Example: runbook connections webhook-secret 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 --generate

    One for all connections of an app: runbook connections webhook-secret 3f2b8c1e-… --channel app < secret.txt
    """
    if retire and generate:
        raise WrongUsageError("--retire takes no secret: first rotate with --generate, then retire what was before")
    beside, name = _overlap(overlap), read_channel(channel) if channel else str(connection_id)
    async with changing() as reach:
        async with reach.sessions.begin() as session:
            provider_id = (await connections.find(session, connection_id)).provider_id
        known = catalog.load(reach.settings.providers, reach.settings.simulator_url).provider(provider_id)
        webhook = _webhook(known)
        if channel and not retire and not webhook.account:
            raise WrongUsageError(
                f"{known.name}'s webhooks do not say which account they are about, so that one channel for all "
                "connections would tell of none. Leave --channel out, and give each connection its own"
            )
        made = f"{_MARK}{base64.b64encode(os.urandom(_BYTES)).decode()}" if generate else ""
        secret = "" if retire else made or typed("Secret")
        if secret and (why_not := trouble_of(webhook, secret.encode())):
            raise WrongUsageError(f"{known.name} cannot have this secret: {why_not}")
        vault, retired, version = Vault(reach.settings.keys), 0, None
        why = because(reason, "runbook connections webhook-secret")
        async with reach.sessions.begin() as session:
            if retire:
                retired = await webhook_secrets.retire(session, provider_id, name)
            else:
                await keys.check(session, vault, by="runbook connections webhook-secret")
                whose = None if channel else connection_id
                await webhook_channels.make(session, provider_id, name, connection_id=whose, by=by, reason=why)
                version = await webhook_secrets.add(
                    session, vault, provider_id, name, secret.encode(), overlap=beside, by=by, reason=why
                )
    address = f"{reach.settings.web_url.rstrip('/')}/webhooks/{provider_id}/{name}"
    token = verify_token(secret.encode()) if secret and webhook.greeting == "hub-challenge" else None
    if json:
        told = {"provider": provider_id, "channel": name, "address": address, "version": version, "retired": retired}
        as_json(told | {"secret": made or None, "verify_token": token})
        return
    if retire:
        out.print(f"Forgot {retired} older secrets of {provider_id} at {name}; only the newest is accepted.")
        return
    out.print(f"Version {version} is accepted. The address to register at {known.name}:\n\n  {address}\n", markup=False)
    if made:
        out.print(f"The secret, shown only now. Give it to {known.name}:\n\n  {made}\n", markup=False)
    if token is not None:
        out.print(f"The verify token that {known.name} asks for beside it:\n\n  {token}\n", markup=False)


def _overlap(text: str) -> timedelta:
    try:
        overlap = duration(text)
    except ValueError as error:
        raise WrongUsageError(f"--overlap {error}") from None
    if overlap > _LONGEST_OVERLAP:
        raise WrongUsageError(f"--overlap {text}: a secret that was replaced is accepted for at most 30 days more")
    return overlap


def _webhook(provider: Provider) -> Webhook:
    if provider.webhook is None:
        raise WrongUsageError(
            f"{provider.name} sends no webhooks that we know of: its entry in the catalog has no [providers."
            f"{provider.id}.webhook] (docs/providers.md)"
        )
    return provider.webhook
