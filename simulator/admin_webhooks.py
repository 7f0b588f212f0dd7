"""The admin API of webhooks: who gets them, and what is sent, as often and as badly as a test wants."""

import random
from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from simulator.admin import Here, Text
from simulator.problems import refusal
from simulator.webhooks import Delivery, How, new_id

MOST = 100_000

router = APIRouter(prefix="/admin/webhooks")


class Subscription(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    secret: Text
    """`whsec_` and base64, as Standard Webhooks has it."""


class SendOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Text = "note.changed"
    data: dict[str, Any] = {}
    """What each tells, beside its number within this order, from 1 on."""
    count: Annotated[int, Field(ge=1, le=MOST)] = 1
    """How many, each with an id of its own."""
    webhook_ids: Annotated[list[Text], Field(min_length=1, max_length=MOST)] | None = None
    """These in place of new ones: to send again what was sent before."""
    copies: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How often each is sent."""
    shuffled: bool = False
    senders: Annotated[int, Field(ge=1, le=64)] = 8
    """How many are on their way at a time; with one, they arrive in order."""
    how: How = How.SIGNED


@router.get("")
async def read_webhooks(here: Here) -> dict[str, Any]:
    return {"subscribers": here.webhooks.subscribers(), "sent": here.webhooks.view()}


@router.put("/subscriptions", response_model=None)
async def subscribe(here: Here, subscription: Subscription) -> Response:
    """One for each address: another secret replaces the first."""
    try:
        here.webhooks.subscribe(subscription.url, subscription.secret)
    except ValueError as error:
        return refusal(f"secret: {error}")
    return JSONResponse({"url": subscription.url}, 201)


@router.delete("/subscriptions")
async def unsubscribe(here: Here) -> dict[str, int]:
    return {"unsubscribed": here.webhooks.unsubscribe_all()}


@router.post("/send", response_model=None)
async def send(here: Here, order: SendOrder) -> Response:
    """Answered when all of them were."""
    if not here.webhooks.subscribers():
        return refusal("nobody has subscribed: PUT /admin/webhooks/subscriptions with url and secret", 409)
    webhook_ids = order.webhook_ids or [new_id() for _ in range(order.count)]
    deliveries = [
        Delivery(webhook_id, order.type, {**order.data, "number": number}, order.how)
        for number, webhook_id in enumerate(webhook_ids, 1)
        for _ in range(order.copies)
    ]
    if order.shuffled:
        random.shuffle(deliveries)
    statuses = await here.webhooks.send(deliveries, order.senders)
    return JSONResponse({"webhook_ids": webhook_ids, "statuses": dict(sorted(Counter(statuses).items()))})
