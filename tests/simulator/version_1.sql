-- A data file that version 1 of the simulator wrote: one connection, refreshed once.
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE access_tokens (
    token TEXT PRIMARY KEY, grant_id TEXT NOT NULL, scope TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
INSERT INTO "access_tokens" VALUES('sim_at_the_first','grant_of_version_1','profile notes.read',1795477319.974);
INSERT INTO "access_tokens" VALUES('sim_at_the_second','grant_of_version_1','profile notes.read',1795477319.975);
CREATE TABLE accounts (
    account_id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE COLLATE NOCASE,
    name TEXT NOT NULL,
    password TEXT NOT NULL  -- plain: these people are invented, and their passwords are printed in the docs
);
INSERT INTO "accounts" VALUES('acct_ada','ada@acme.example','Ada Acme','ada');
INSERT INTO "accounts" VALUES('acct_bob','bob@other.example','Bob Other','bob');
CREATE TABLE codes (
    code TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    scope TEXT NOT NULL,
    code_challenge TEXT,
    expires_at REAL NOT NULL,
    grant_id TEXT  -- what its first use opened; set means used
) WITHOUT ROWID;
INSERT INTO "codes" VALUES('sim_ac_spent','acct_ada','runbook-test','http://127.0.0.1:9/oauth/callback/simulator','profile notes.read','2jYB28bSlQVRiJMzZbhbNO5JUBaICqQMb8cfoTZipPc',1795477259.971,'grant_of_version_1');
CREATE TABLE grants (
    seq INTEGER PRIMARY KEY,
    grant_id TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    created_at REAL NOT NULL,
    revoked_at REAL
);
INSERT INTO "grants" VALUES(1,'grant_of_version_1','acct_ada','runbook-test','profile notes.read',1795477199.974,NULL);
CREATE TABLE notes (
    seq INTEGER PRIMARY KEY,
    note_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    text TEXT NOT NULL,
    created_at REAL NOT NULL,
    idempotency_key TEXT,
    UNIQUE (account_id, idempotency_key)
);
CREATE TABLE refresh_tokens (
    token TEXT PRIMARY KEY,
    grant_id TEXT NOT NULL,
    expires_at REAL,
    retired_at REAL,
    successor_access TEXT,  -- the pair that replaced it, to be given once more within the grace period
    successor_refresh TEXT
) WITHOUT ROWID;
INSERT INTO "refresh_tokens" VALUES('sim_rt_the_second','grant_of_version_1',NULL,NULL,NULL,NULL);
INSERT INTO "refresh_tokens" VALUES('sim_rt_the_first','grant_of_version_1',NULL,1795477199.975,'sim_at_the_second','sim_rt_the_second');
CREATE TABLE requests (
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
INSERT INTO "requests" VALUES(5,1795477199.974,'POST','/oauth/token',200,'acct_ada','grant_of_version_1',0.472,'{"grant_type": "authorization_code", "token_fp": "297a0019", "pkce": "verified"}');
INSERT INTO "requests" VALUES(6,1795477199.975,'POST','/oauth/token',200,'acct_ada','grant_of_version_1',0.46,'{"grant_type": "refresh_token", "token_fp": "378949c2", "refresh": "rotated"}');
CREATE TABLE seen_secrets (
    kind TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, value)
) WITHOUT ROWID;
INSERT INTO "seen_secrets" VALUES('client_secret','a very secret client secret');
INSERT INTO "seen_secrets" VALUES('code_verifier','the code verifier');
INSERT INTO "seen_secrets" VALUES('state','the state of it');
CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY, account_id TEXT NOT NULL, csrf TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE settings (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), value TEXT NOT NULL);
INSERT INTO "settings" VALUES(1,'{"pkce_required":true,"rotate":true,"rotation_grace_s":300.0,"reuse_detection":true,"access_token_ttl":120,"refresh_token_ttl":null}');
CREATE INDEX grants_by_account ON grants (account_id, seq);
COMMIT;
