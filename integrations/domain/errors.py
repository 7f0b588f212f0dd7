"""What a step may raise. An expected answer is a return value; an exception means "again" or "stop"."""

from datetime import timedelta


class RunbookError(Exception):
    """A step failed in a way that a person should be able to read.

    The message names the thing, the value and the way out, and never holds a secret.
    """


class TryAgainError(RunbookError):
    """Nothing is decided yet: the same step may succeed later. Temporal's retry policy decides when.

    `after` is what the other side asked for (Retry-After), if it did.
    """

    def __init__(self, message: str, after: timedelta | None = None) -> None:
        super().__init__(message)
        self.after = after


class StopError(RunbookError):
    """Trying again cannot help: a row is missing, a key is unknown, a request makes no sense."""


class NotReadyError(TryAgainError):
    """A person has to give the process something, a client secret or a key. Work waits for it and is not lost."""


class KeyTakenError(StopError):
    """An idempotency key came back with another request: one key stands for one thing."""


class WrongUsageError(StopError):
    """What was asked for cannot be meant: the message says how it is written."""
