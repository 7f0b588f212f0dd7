"""The servers that `runbook up`, `runbook demo` and the tests start by themselves: PostgreSQL and Temporal.

Nothing is imported here, so that a command that only reads `live.json` does not pay for asyncpg and temporalio.
"""
