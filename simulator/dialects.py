"""Which dialect is spoken. In memory: after a restart the simulator is itself."""

from simulator.accounts import APPLICATION
from simulator.dialect import UNSCOPED, Dialect
from simulator.grants import Grants
from simulator.oauth import OAuthServer
from simulator.scopes import SCOPES


class Dialects:
    def __init__(self, oauth: OAuthServer, grants: Grants) -> None:
        self.current: Dialect | None = None
        self._oauth = oauth
        self._grants = grants

    def speak(self, dialect: Dialect | None, now: float) -> None:
        """Speak another one from now on; None for the simulator's own."""
        self.current = dialect
        self._oauth.scopes_supported = list(SCOPES) if dialect is None else [*dialect.scopes, UNSCOPED]
        # What the application may do in its own name was told in the old one's scopes; it gets it anew.
        self._grants.revoke(now, account_id=APPLICATION)
