"""A redelivery of what failed or was given up: tried again at once, by the flow. What is well it leaves alone.

The ingress does this in the transaction that counts the repeat, and waits for nobody: a delivery that is being handled
at this very moment is locked, and passed over. Its workflow lives, or its settle is what this would have led to.
A workflow that is still at it finds the row `pending` at its next attempt, and ends.
"""

from typing import Final

from integrations.db.outbox_trouble import APPEND

WAKE: Final = f"""
WITH woken AS (
  UPDATE service_webhook_deliveries SET status = 'pending', due_at = now(), lease_until = NULL, settled_at = NULL,
    woken = least(woken + 1, 32767), history = {APPEND}jsonb_build_object('at', now(), 'by', 'redelivery')
  WHERE id = (
    SELECT id FROM service_webhook_deliveries
    WHERE provider_id = $1 AND channel = $2 AND delivery_id = $3 AND status IN ('retrying', 'dead')
    FOR UPDATE SKIP LOCKED
  ) RETURNING id
), released AS (
  -- It may have tried for all: somebody else does from now on.
  UPDATE service_ledger_holds SET released_at = now()
  WHERE ledger = 'webhooks' AND released_at IS NULL AND item_id IN (SELECT id FROM woken)
)
SELECT id FROM woken
"""  # noqa: S608 - ours
"""asyncpg's own parameters, on the one hot path: provider, channel, delivery id. The row's id, if it was woken."""
