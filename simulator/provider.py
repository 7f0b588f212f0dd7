"""The provider, put together: the only place that constructs its parts."""

from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from simulator import oauth_grants
from simulator.accounts import Accounts
from simulator.client import Client
from simulator.clock import Clock
from simulator.config import Config
from simulator.dialects import Dialects
from simulator.fault_choice import FaultChoice
from simulator.faults import Faults
from simulator.grants import Grants
from simulator.identity import Identifier
from simulator.inbox import Inbox
from simulator.log import RequestLog
from simulator.mailbox import Mailbox
from simulator.notes import Notes
from simulator.oauth import OAuthServer
from simulator.settings import SettingsBook
from simulator.sightings import Sightings
from simulator.store import Store
from simulator.tokens import Tokens
from simulator.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Provider:
    config: Config
    store: Store
    settings: SettingsBook
    clock: Clock
    accounts: Accounts
    grants: Grants
    tokens: Tokens
    notes: Notes
    sightings: Sightings
    log: RequestLog
    faults: Faults
    fault_choice: FaultChoice
    identifier: Identifier
    oauth: OAuthServer
    dialects: Dialects
    inbox: Inbox
    mailbox: Mailbox
    webhooks: Webhooks

    @classmethod
    def build(cls, config: Config) -> "Provider":
        store = Store(config.data)
        settings, accounts, faults = SettingsBook(store), Accounts(store), Faults()
        clock = Clock(settings)
        grants, tokens, sightings = Grants(store), Tokens(store), Sightings(store)
        sightings.saw("client_secret", config.client_secret)
        oauth = OAuthServer(Client(config), accounts, grants, tokens, settings)
        oauth_grants.register(oauth)
        return cls(
            config=config,
            store=store,
            settings=settings,
            clock=clock,
            accounts=accounts,
            grants=grants,
            tokens=tokens,
            notes=Notes(store),
            sightings=sightings,
            log=RequestLog(store),
            faults=faults,
            fault_choice=FaultChoice(faults),
            identifier=Identifier(accounts, grants, tokens),
            oauth=oauth,
            dialects=Dialects(oauth, grants),
            inbox=Inbox(),
            mailbox=Mailbox(),
            webhooks=Webhooks(store, sightings, clock),
        )


def provider_of(request: Request) -> Provider:
    return cast("Provider", request.app.state.provider)
