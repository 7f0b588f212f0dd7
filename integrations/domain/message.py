"""The base of everything that travels: in a workflow's history, a signal, a JSON column."""

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Frozen, and deaf to fields it does not know: an older worker may meet a newer message during a deployment.

    Fields are added with a default and never renamed. Messages carry ids, never secrets.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
