"""A redelivery of what failed or was given up: tried again at once, by the flow. What is well it leaves alone.

The ingress does this in the statement that counts the repeat, and waits for nobody: a delivery that is being handled at
this very moment is locked, and passed over. It is settled then, or somebody still goes on with it. A workflow that is
at it finds the row `pending` at its next attempt, and ends.
"""

from typing import Final

from integrations.db.outbox_trouble import APPEND

WOKEN: Final = f"""woken AS (
  UPDATE service_webhook_deliveries SET status = 'pending', due_at = now(), lease_until = NULL, settled_at = NULL,
    woken = least(woken + 1, 32767), history = {APPEND}jsonb_build_object('at', now(), 'attempt', attempts,
      'error', 'sent again by the provider: tried at once')
  WHERE id = (
    SELECT id FROM service_webhook_deliveries
    WHERE provider_id = $1 AND channel = $2 AND delivery_id = $3 AND status IN ('retrying', 'dead')
    FOR UPDATE SKIP LOCKED
  ) RETURNING id
), released AS (
  -- It may have tried for all that are for its handler: the flow does from now on.
  UPDATE service_ledger_holds SET released_at = now()
  WHERE ledger = 'webhooks' AND released_at IS NULL AND item_id IN (SELECT id FROM woken)
)"""  # noqa: S608 - ours
"""Parts of a WITH clause, in asyncpg's own parameters: $1 provider, $2 channel, $3 delivery id."""
