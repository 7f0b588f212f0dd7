"""The buttons of the break-it page: what people break most, and what that looks like from the other side."""

from dataclasses import dataclass

from simulator.fault_order import FaultOrder


@dataclass(frozen=True, slots=True)
class Button:
    name: str
    label: str
    effect: str
    """What the platform on the other side will see, and what it must not do about it."""
    orders: tuple[FaultOrder, ...]


def _next_rotation(kind: str) -> FaultOrder:
    return FaultOrder(kind=kind, path="/oauth/token", method="POST", grant_type="refresh_token", count=1)


BUTTONS = (
    Button(
        "outage",
        "503 for 60 s",
        "Every call is answered 503, the next refresh too. That is an outage and says nothing about any grant:"
        " calls wait and are tried again, and no connection may be demoted.",
        (FaultOrder(kind="status", status=503, seconds=60),),
    ),
    Button(
        "script",
        "Flaky, dead, and well again",
        "20 s in which 30 % of the calls are answered 503, then 10 s in which none is answered, then everything is"
        " well. Calls that got through in between are no proof of health, and nobody may be asked for consent.",
        (
            FaultOrder(kind="status", status=503, share=0.3, seconds=20),
            FaultOrder(kind="hang", after_s=20, seconds=10, seconds_hold=10),
        ),
    ),
    Button(
        "throttle",
        "429 for 60 s",
        "Every call is answered 429 with a Retry-After of 30 seconds. Nothing may be sent again before that, other"
        " providers must not wait along, and no connection may be demoted.",
        (FaultOrder(kind="throttle", retry_after=30, seconds=60),),
    ),
    Button(
        "html",
        "A proxy's page for 60 s",
        "Every call is answered 502 with an HTML page by something in front of the provider. It is an outage although"
        " somebody answered: the page must not be read as an answer about a grant.",
        (FaultOrder(kind="html", seconds=60),),
    ),
    Button(
        "empty",
        "Empty answers for 60 s",
        "Every call is answered 200 with nothing in it, and nothing was done. A success without its content is none:"
        " it must not pass for a refreshed token or a finished write.",
        (FaultOrder(kind="empty", seconds=60),),
    ),
    Button(
        "hang",
        "Hang for 60 s",
        "Connections are accepted and nothing is ever answered. Calls must run into their own timeouts, other"
        " providers must not slow down, and no connection may be demoted.",
        (FaultOrder(kind="hang", seconds=60, seconds_hold=60),),
    ),
    Button(
        "drip",
        "Drip answers for 60 s",
        "Requests are carried out and answered one byte per second, so that no single read is ever late. A deadline"
        " for the whole call must end it; what was sent must not pass for something that never arrived.",
        (FaultOrder(kind="drip", seconds=60, seconds_hold=60),),
    ),
    Button(
        "reset",
        "Reset connections for 60 s",
        "Every connection is torn down (RST) and nothing is carried out, which the other side cannot know. Calls are"
        " tried again where a repetition does no harm, and no connection may be demoted.",
        (FaultOrder(kind="reset", seconds=60),),
    ),
    Button(
        "drop",
        "Drop the next rotation",
        "The next refresh is carried out, but its answer is lost: this side has new tokens that nobody received."
        " Sent again within the grace period, the old token is answered with the same new pair. Later it must not be"
        " sent: it looks stolen, and the whole grant is revoked.",
        (_next_rotation("drop"),),
    ),
    Button(
        "truncate",
        "Cut the next rotation in half",
        "The next refresh is carried out, and only half of its answer arrives: the same loss as a dropped one. What"
        " arrived must not be read as a token or as a refusal, nor be logged.",
        (_next_rotation("truncated"),),
    ),
)
