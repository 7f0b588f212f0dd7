"""The tables. Every lookup on the path of a request is by primary key; the indexes beside serve people and proofs."""

VERSION = 2

UPGRADES = {
    1: """
ALTER TABLE access_tokens ADD COLUMN issued_at REAL;
ALTER TABLE refresh_tokens ADD COLUMN issued_at REAL;
"""
}
"""By the version that a file has: what makes it the next one. Whoever keeps a data file keeps it over an update."""

TABLES = """
CREATE TABLE IF NOT EXISTS accounts (
    account_id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE COLLATE NOCASE,
    name TEXT NOT NULL,
    password TEXT NOT NULL  -- plain: these people are invented, and their passwords are printed in the docs
);
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY, account_id TEXT NOT NULL, csrf TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grants (
    seq INTEGER PRIMARY KEY,
    grant_id TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    created_at REAL NOT NULL,
    revoked_at REAL
);
CREATE INDEX IF NOT EXISTS grants_by_account ON grants (account_id, seq);
CREATE TABLE IF NOT EXISTS codes (
    code TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    scope TEXT NOT NULL,
    code_challenge TEXT,
    expires_at REAL NOT NULL,
    grant_id TEXT  -- what its first use opened; set means used
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS access_tokens (
    token TEXT PRIMARY KEY,
    grant_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    expires_at REAL NOT NULL,
    issued_at REAL  -- unknown of what version 1 issued
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refresh_tokens (
    token TEXT PRIMARY KEY,
    grant_id TEXT NOT NULL,
    expires_at REAL,
    retired_at REAL,
    successor_access TEXT,  -- the pair that replaced it, to be given once more within the grace period
    successor_refresh TEXT,
    issued_at REAL  -- unknown of what version 1 issued
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (
    seq INTEGER PRIMARY KEY,
    note_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    text TEXT NOT NULL,
    created_at REAL NOT NULL,
    idempotency_key TEXT,
    UNIQUE (account_id, idempotency_key)
);
CREATE TABLE IF NOT EXISTS requests (
    seq INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER,
    account_id TEXT,
    grant_id TEXT,
    duration_ms REAL,
    detail TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS seen_secrets (
    kind TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, value)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS webhook_subscriptions (url TEXT PRIMARY KEY, secret TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), value TEXT NOT NULL);
"""
