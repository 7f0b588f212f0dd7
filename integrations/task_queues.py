"""How fast an activity queue lets its tasks out, as the Temporal server keeps it: for all, and for one fairness key.

The server knows one limit for every fairness key of a queue, and multiplies it by the key's weight. So one tenant is
held back by a high limit for all keys and a small weight of its own. Both are exact within one partition of the queue;
with more of them each has its share.

    temporal task-queue config get --task-queue provider-github --task-queue-type activity

tells what is set, since when, by whom and why.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import RateLimit, RateLimitConfig, TaskQueue, TaskQueueConfig
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, UpdateTaskQueueConfigRequest
from temporalio.client import Client

IDENTITY: Final = "runbook outage"
"""Who stands in the config. What somebody else has set, and no brake of ours, is let alone."""
PUT_BACK: Final = "runbook outage, put back"
"""Who stands there when a limit of somebody else is back: it is that one's again."""
LEAST: Final = 0.02
"""Calls per second: a fairness key cannot be held back to fewer."""
_LEAST_WEIGHT: Final = 0.001
"""A smaller one is taken for this by the server."""
_EVERYBODY: Final = 1000.0
"""Calls per second of each key that is not held back, which nobody gets near."""
_KEY_BYTES: Final = 64
"""A longer fairness key is refused by the server, with the workflow's task."""
_DIGEST: Final = 16
_REASON: Final = 500
"""Characters of a reason: a person reads it in a terminal."""
_PATIENCE: Final = timedelta(seconds=5)
_AS_BEFORE: Final = "as it was before our brake"
_SAME: Final = 1e-5
"""The server keeps 32 bits of a number."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Calls per second that are let out. Without any, the queue is as fast as its workers."""

    queue: float | None = None
    """Of all together. 0: nothing is let out. None: as many as there are."""
    keys: Mapping[str, float] = field(default_factory=dict)
    """Of single fairness keys."""

    def for_all_keys(self, before: float | None = None) -> float | None:
        """What the weights are shares of: so much that only who is held back notices, where the server allows it.

        `before`: to how much somebody else had limited each key, which stays so.
        """
        if not self.keys:
            return None
        most = _EVERYBODY if before is None else before
        return min(most, max(min(self.keys.values()), LEAST) / _LEAST_WEIGHT)

    def weights(self, before: float | None = None) -> dict[str, float]:
        whole = self.for_all_keys(before)
        return {key: max(rate, LEAST) / whole for key, rate in self.keys.items()} if whole else {}


@dataclass(frozen=True, slots=True)
class Kept:
    """What somebody else had set of a queue before our brakes: it comes back in their place."""

    queue: float | None = None
    each_key: float | None = None
    weights: Mapping[str, float | None] = field(default_factory=dict)
    """Of the keys that brakes of ours were ever put on. None: it had no weight of its own."""


def provider_queue(provider_id: str) -> str:
    """Where one provider's calls run: with slots of their own, so that its trouble takes nobody else's."""
    return f"provider-{provider_id}"


def fairness_key(tenant: str) -> str:
    """The tenant, cut and with a digest where it is longer than a fairness key may be."""
    told = tenant.encode()
    if len(told) <= _KEY_BYTES:
        return tenant
    digest = hashlib.sha256(told).hexdigest()[:_DIGEST]
    return f"{told[: _KEY_BYTES - _DIGEST - 1].decode(errors='ignore')}~{digest}"


async def config(client: Client, queue: str) -> TaskQueueConfig:
    """What the server keeps of an activity queue. Raises RPCError when it does not answer."""
    asked = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        report_config=True,
    )
    return (await client.workflow_service.describe_task_queue(asked, timeout=_PATIENCE)).config


def is_ours(found: RateLimitConfig) -> bool:
    """Has a brake of ours said the last word about a limit?"""
    return bool(found.metadata.update_identity == IDENTITY)


def is_on(found: RateLimitConfig) -> bool:
    """Is a limit of ours on, as far as the server shows it?"""
    return is_ours(found) and rate_of(found) is not None


def rate_of(found: RateLimitConfig) -> float | None:
    """Calls per second. None: there is no limit."""
    return found.rate_limit.requests_per_second if found.HasField("rate_limit") else None


async def limit(
    client: Client, queue: str, wanted: Rates, before: Kept = Kept(), *, reason: str, changed: bool = False
) -> bool:
    """Have an activity queue let out what is wanted, and no more. Whether anything had to be said for that.

    `before`: what comes back in place of our limits where these are wanted no more. What somebody else has set
    meanwhile stays. `changed`: what is wanted was something else a moment ago. It is said in any case, for the server
    may still show what was there before the last change. Safe to repeat. Raises RPCError when the server does not
    answer.
    """
    found = await config(client, queue)
    back = _change(client, queue, PUT_BACK)
    change = _change(client, queue, IDENTITY)
    if wanted.queue is None and before.queue is not None:
        if is_ours(found.queue_rate_limit):
            back.update_queue_rate_limit.CopyFrom(_update(before.queue, f"{_AS_BEFORE}; {reason}"))
    elif _is_to_be_said(found.queue_rate_limit, wanted.queue, changed=changed):
        change.update_queue_rate_limit.CopyFrom(_update(wanted.queue, reason))
    _limit_keys(found, change if wanted.keys or before.each_key is None else back, wanted, before, reason, changed)
    to_say = [each for each in (back, change) if any(field.name in _CHANGES for field, _ in each.ListFields())]
    for each in to_say:
        await client.workflow_service.update_task_queue_config(each, timeout=_PATIENCE)
    return bool(to_say)


def _limit_keys(
    found: TaskQueueConfig,
    change: UpdateTaskQueueConfigRequest,
    wanted: Rates,
    before: Kept,
    reason: str,
    changed: bool,
) -> None:
    """The limit of each key and the weights that are shares of it go together: one request says both, or neither."""
    default, there = found.fairness_keys_rate_limit_default, found.fairness_weight_overrides
    if not wanted.keys and not changed and not is_on(default):
        # No brake of ours is on, nor was a moment ago: weights are somebody else's, as the limit is.
        return
    if wanted.keys or before.each_key is None:
        whole = wanted.for_all_keys(before.each_key)
        if _is_to_be_said(default, whole, changed=changed):
            change.update_fairness_key_rate_limit_default.CopyFrom(_update(whole, reason))
    elif is_ours(default):
        change.update_fairness_key_rate_limit_default.CopyFrom(_update(before.each_key, f"{_AS_BEFORE}; {reason}"))
    weights: dict[str, float | None] = {**before.weights, **wanted.weights(before.each_key)}
    for key, weight in sorted(weights.items()):
        if weight is None:
            if changed or key in there:
                change.unset_fairness_weight_overrides.append(key)
        elif changed or key not in there or not math.isclose(there[key], weight, rel_tol=_SAME):
            change.set_fairness_weight_overrides[key] = weight


_CHANGES: Final = frozenset(
    {
        "update_queue_rate_limit",
        "update_fairness_key_rate_limit_default",
        "set_fairness_weight_overrides",
        "unset_fairness_weight_overrides",
    }
)


def _change(client: Client, queue: str, identity: str) -> UpdateTaskQueueConfigRequest:
    """Of an activity queue; nothing yet. The server keeps one identity for all that one request says."""
    return UpdateTaskQueueConfigRequest(
        namespace=client.namespace,
        identity=identity,
        task_queue=queue,
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    )


def _is_to_be_said(found: RateLimitConfig, wanted: float | None, *, changed: bool) -> bool:
    """A limit that nobody of us has set is not taken off."""
    there = rate_of(found)
    if wanted is None:
        return is_ours(found) if there is not None else changed
    return changed or there is None or not math.isclose(there, wanted, rel_tol=_SAME)


def _update(rate: float | None, reason: str) -> UpdateTaskQueueConfigRequest.RateLimitUpdate:
    limit = None if rate is None else RateLimit(requests_per_second=rate)
    return UpdateTaskQueueConfigRequest.RateLimitUpdate(rate_limit=limit, reason=reason[:_REASON])
