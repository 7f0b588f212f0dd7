"""What people may ask of an outage that is open. Absolute values: each update is safe to send twice."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from integrations.domain.outage import OURS, Isolate, OutageRequest, Pin, Word

_DATA = 'Data: {"by": "you", "reason": "why"}'


class OutageAsked:
    """The part of the workflow that listens to people. The loop does what they want between two looks."""

    _heard: list[Word]
    """What was said and is not done yet."""
    _is_over: bool
    """Nothing that is said from now on would be done."""
    _is_contained: bool
    """Something is slowed down: there is a rate to pin."""
    _request: OutageRequest

    @workflow.update(
        description="Press when it is over, or when it never was one: every brake and the shield come off at once, and "
        f"the detector may find it again. {_DATA}"
    )
    def close(self, word: Word) -> str:
        self._heard = [*self._heard, word]
        return "it is being closed: brakes and shield come off"

    @workflow.update(
        description="Press to let through a rate of your own, in calls per second; nothing changes it for an hour, or "
        'for as long as you say, but `unpin`. Data: {"by": "you", "reason": "why", "rate": 2, "hold": "PT1H"}'
    )
    def pin(self, pin: Pin) -> str:
        self._heard = [*self._heard, pin]
        return f"pinned at {pin.rate:g} calls/s until {_in(pin.hold)}, or until it is unpinned"

    @workflow.update(description=f"Press to have the rate found by itself again. {_DATA}")
    def unpin(self, word: Word) -> str:
        self._heard = [*self._heard, Unpin(**word.model_dump())]
        return "the rate is found by itself again"

    @workflow.update(
        description="Press when it reaches further than what is contained: an endpoint, a tenant, or the whole "
        'provider when neither is named. Data: {"by": "you", "reason": "why", "endpoint": "notes.read"}'
    )
    def isolate(self, wish: Isolate) -> str:
        self._heard = [*self._heard, wish]
        told = f"{wish.endpoint or wish.tenant or 'the whole provider'} is being contained as well"
        return f"{told}; all of it stays so until {_in(wish.hold)} at least" if wish.hold else told

    @close.validator
    def _check_close(self, word: Word) -> None:
        self._check(word)

    @pin.validator
    def _check_pin(self, pin: Pin) -> None:
        self._check(pin)
        self._check_contained()

    @unpin.validator
    def _check_unpin(self, word: Word) -> None:
        self._check(word)
        self._check_contained()

    @isolate.validator
    def _check_isolate(self, wish: Isolate) -> None:
        self._check(wish)
        if self._request.provider_id == OURS:
            raise ValueError("it is our own way out, and all of these providers are contained")
        if wish.tenant and not wish.tenant.startswith(("user:", "org:")):
            raise ValueError(f"tenant is {wish.tenant!r}: write it like org:acme or user:ada")
        if wish.endpoint and wish.tenant:
            raise ValueError(
                "say either an endpoint or a tenant: calls of one tenant to one endpoint are not contained"
            )

    def _check(self, word: Word) -> None:
        for name in ("by", "reason"):
            if not getattr(word, name).strip():
                raise ValueError(f"{name} is empty: say who asks, and why")
        if self._is_over:
            raise ValueError("it is being closed")

    def _check_contained(self) -> None:
        if not self._is_contained:
            raise ValueError(
                "nothing is contained yet: how far it reaches is still being asked. Try again in a minute, or isolate"
            )


def _in(hold: timedelta) -> str:
    return f"{workflow.now() + hold:%Y-%m-%d %H:%M} UTC"


class Unpin(Word):
    """A pin is taken off."""
