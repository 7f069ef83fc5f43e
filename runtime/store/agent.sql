-- schema of one agent's local state

CREATE TABLE IF NOT EXISTS writer ("only" INTEGER PRIMARY KEY CHECK ("only" = 1), epoch INTEGER NOT NULL);
INSERT INTO writer VALUES (1, 0) ON CONFLICT DO NOTHING;

-- State and receipts lie in the order in which they came, with their keys in an index: a commit then writes few pages.
-- Laid out by their keys, rows of some hundred bytes each go into another page. Stores that were made so stay so.
CREATE TABLE IF NOT EXISTS state (
    collection TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      BLOB,
    version    INTEGER NOT NULL,
    PRIMARY KEY (collection, key)
);

CREATE TABLE IF NOT EXISTS receipt (
    key          TEXT PRIMARY KEY,
    capability   TEXT NOT NULL,
    input_digest TEXT NOT NULL,
    output       BLOB NOT NULL,
    award        TEXT NOT NULL,
    at_ms        INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS receipt_labels (
    key    TEXT PRIMARY KEY,
    labels BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS effect (
    key            TEXT PRIMARY KEY,
    connector      TEXT NOT NULL,
    operation      TEXT NOT NULL,
    request        BLOB NOT NULL,
    status         TEXT NOT NULL,
    lease_until_ms INTEGER NOT NULL,
    result         BLOB,
    at_ms          INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS effect_open ON effect (key) WHERE status IN ('claimed', 'unknown');

-- write: write_state puts a value; NULL deletes it
INSERT INTO state (collection, key, value, version) VALUES (?, ?, ?, ?)
ON CONFLICT (collection, key) DO UPDATE SET value = excluded.value, version = excluded.version

-- write: insert_receipt says that a step was executed; a key is used once
INSERT INTO receipt (key, capability, input_digest, output, award, at_ms) VALUES (?, ?, ?, ?, ?, ?)

-- write: insert_receipt_labels says what is known of an answer, such as that it is private; most have no such row
INSERT INTO receipt_labels (key, labels) VALUES (?, ?)

-- write: write_effect says how an outside effect stands
INSERT INTO effect (key, connector, operation, request, status, lease_until_ms, result, at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    connector = excluded.connector, operation = excluded.operation, request = excluded.request,
    status = excluded.status, lease_until_ms = excluded.lease_until_ms, result = excluded.result, at_ms = excluded.at_ms

-- write: forget_receipts of a task that ended long ago: its keys from, to
DELETE FROM receipt WHERE key >= ? AND key < ?

-- write: forget_receipt_labels of a task that ended long ago: its keys from, to
DELETE FROM receipt_labels WHERE key >= ? AND key < ?

-- write: forget_effects of a task that ended long ago, but for those whose outcome nobody knows: keys from, to
DELETE FROM effect WHERE key >= ? AND key < ? AND status NOT IN ('claimed', 'unknown')

-- query: state by key
SELECT value, version FROM state WHERE collection = ? AND key = ?

-- query: scan of a collection: prefix range [from, to), keys above after_key, limit
SELECT key, value, version FROM state
WHERE collection = ? AND key >= ? AND key < ? AND key > ? AND value IS NOT NULL ORDER BY key LIMIT ?

-- query: receipt by key
SELECT capability, input_digest, output, award FROM receipt WHERE key = ?

-- query: receipt_labels by key
SELECT labels FROM receipt_labels WHERE key = ?

-- query: effect by key
SELECT key, connector, operation, request, status, lease_until_ms, result, at_ms FROM effect WHERE key = ?

-- query: step_effects in the key range [from, to)
SELECT key, connector, operation, request, status, lease_until_ms, result, at_ms FROM effect
WHERE key >= ? AND key < ? ORDER BY key

-- query: open_effects are those whose outcome is not known
SELECT key, connector, operation, request, status, lease_until_ms, result, at_ms FROM effect
WHERE status IN ('claimed', 'unknown') ORDER BY key

-- query: receipt_count
SELECT count(*) FROM receipt
