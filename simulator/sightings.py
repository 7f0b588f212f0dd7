"""Every secret this server issued or saw, so that a proof can search other systems' data for them."""

from simulator.store import Store

# Shorter ones ("s" as a state) would be found everywhere and prove nothing.
SHORTEST_WORTH_SEARCHING = 8

ALL = """
SELECT 'access_token', token FROM access_tokens
UNION ALL SELECT 'refresh_token', token FROM refresh_tokens
UNION ALL SELECT 'code', code FROM codes
UNION ALL SELECT kind, value FROM seen_secrets
"""


class Sightings:
    """What was issued is in its own table already; this remembers what only clients and browsers brought."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def saw(self, kind: str, value: str | None) -> None:
        if value and len(value) >= SHORTEST_WORTH_SEARCHING:
            self._store.run("INSERT OR IGNORE INTO seen_secrets VALUES (?, ?)", (kind, value))

    def everything(self) -> list[dict[str, str]]:
        return [{"kind": kind, "value": value} for kind, value in self._store.rows(ALL)]
