"""The one exception of this package."""


class EmbeddedError(Exception):
    """An embedded server or its data folder cannot be used; the message names the thing, its value and the way out."""
