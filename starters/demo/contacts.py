"""Who is told: the owner by mail, the operators by a webhook. Both end at the simulator, which shows what arrived."""

import asyncio
import re
from typing import Final

from starters.demo.scene import BY, Scene, StoryError
from starters.demo.terminal import runbook

OWNER: Final = "ada@mail.acme.example"
"""Another mailbox than the account's, which the platform knows from the provider: this one is sealed."""
INBOX: Final = "operators"
"""Where the operators' webhook leads to, at the simulator."""
_SIGNING: Final = re.compile(r"whsec_\S+")


async def introduce(scene: Scene) -> None:
    """Write both addresses down, as an operator does."""
    hook = f"{scene.stack.simulator_url}/inbox/{INBOX}"
    printed = await asyncio.gather(
        _add(scene, "org:acme", "email", OWNER, "--name", "Ada"),
        _add(scene, "operators.primary", "webhook", hook),
    )
    scene.secrets += [OWNER, hook, *_SIGNING.findall("".join(printed))]
    scene.tell("org:acme is reached by mail, the operators by a webhook")


async def _add(scene: Scene, *words: str) -> str:
    code, printed = await runbook(scene.stack, "contacts", "add", *words, "--by", BY)
    if code:
        raise StoryError(f"runbook contacts add {words[0]} ended with {code}: {printed}")
    return printed
