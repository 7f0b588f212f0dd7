"""The command line."""

import argparse
import os
import signal
import sys
from pathlib import Path

from simulator.app import create_app
from simulator.config import Config, ConfigError
from simulator.server import Server
from simulator.store import WrongDataVersionError

DESCRIPTION = """\
A provider that people can break: OAuth 2.0 (Authlib), an API behind scopes, a request log, faults on demand.
It also takes what others send: posts to /inbox/NAME, and mail; and it sends webhooks: /admin/webhooks.
The admin API and the break-it page ask for no password: keep it on loopback."""

EXAMPLE = """\
example:
  SIMULATOR_CLIENT_ID=demo SIMULATOR_CLIENT_SECRET=demo-secret \\
  SIMULATOR_REDIRECT_URIS=http://127.0.0.1:8000/oauth/callback/simulator \\
  python -m simulator --port 9400 --mail-port 2525 --data simulator.sqlite
  then open http://127.0.0.1:9400/ and log in as ada@acme.example (ada) or bob@other.example (bob)

environment:
  SIMULATOR_CLIENT_ID, SIMULATOR_CLIENT_SECRET   the one registered client
  SIMULATOR_REDIRECT_URIS                        its redirect addresses, separated by spaces, compared exactly
  SIMULATOR_CLIENT_NAME                          its name on the consent page (default: the client id)
  SIMULATOR_LINKS                                links on the break-it page, such as {"Web UI": "http://127.0.0.1:8233"}"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulator",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--mail-port", type=int, help="take mail by SMTP here, 0 for a free port; default: no mail server"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s; anything else exposes the admin API")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE.sqlite",
        help="keep accounts, grants and the log here; a file of an older version is brought up to date",
    )
    options = parser.parse_args(arguments)
    try:
        app = create_app(Config.from_env(os.environ, options.data))
    except (ConfigError, WrongDataVersionError) as error:
        parser.error(str(error))
    # uvicorn raises the signal once more after its orderly shutdown; being asked to stop is no failure.
    for asked_to_stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked_to_stop, lambda *_: sys.exit(0))
    server = Server(app, options.host, options.port, options.mail_port)
    server.run()
    return 0 if server.started else 1
