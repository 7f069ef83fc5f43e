-- schema of the shared memory of one shard
-- with: tree
-- Statements of one commit run in the order of this file: what deletes stands last.

CREATE TABLE IF NOT EXISTS writer ("only" INTEGER PRIMARY KEY CHECK ("only" = 1), epoch INTEGER NOT NULL);
INSERT INTO writer VALUES (1, 0) ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS journal (
    sequence INTEGER PRIMARY KEY,
    task     TEXT,
    entry    BLOB NOT NULL,
    hash     BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS journal_of_task ON journal (task, sequence) WHERE task IS NOT NULL;

CREATE TABLE IF NOT EXISTS record (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    version    INTEGER NOT NULL,
    sequence   INTEGER NOT NULL,
    known_ms   INTEGER NOT NULL,
    ended_ms   INTEGER,
    expires_ms INTEGER,
    episode    TEXT,
    position   INTEGER,
    created_ms INTEGER NOT NULL,
    episodic   INTEGER NOT NULL,
    subject    TEXT,
    salt       BLOB NOT NULL,
    body       BLOB NOT NULL,
    PRIMARY KEY (tenant, id, version)
);
CREATE INDEX IF NOT EXISTS record_current ON record (tenant, id) WHERE ended_ms IS NULL;
CREATE INDEX IF NOT EXISTS record_ended ON record (tenant, ended_ms) WHERE ended_ms IS NOT NULL;
CREATE INDEX IF NOT EXISTS record_expiring ON record (expires_ms) WHERE expires_ms IS NOT NULL AND ended_ms IS NULL;
CREATE INDEX IF NOT EXISTS record_of_episode ON record (tenant, episode, position)
    WHERE episode IS NOT NULL AND ended_ms IS NULL;
CREATE INDEX IF NOT EXISTS record_in_time ON record (tenant, created_ms, id) WHERE episodic = 1 AND ended_ms IS NULL;
CREATE INDEX IF NOT EXISTS record_of_subject ON record (tenant, subject) WHERE subject IS NOT NULL;

CREATE TABLE IF NOT EXISTS embedding (
    tenant  TEXT NOT NULL,
    id      TEXT NOT NULL,
    version INTEGER NOT NULL,
    model   TEXT NOT NULL,
    vector  BLOB NOT NULL,
    PRIMARY KEY (tenant, id, version)
);

CREATE TABLE IF NOT EXISTS derivation (
    tenant TEXT NOT NULL,
    source TEXT NOT NULL,
    id     TEXT NOT NULL,
    PRIMARY KEY (tenant, source, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS derivation_of ON derivation (tenant, id);

CREATE TABLE IF NOT EXISTS tombstone (
    tenant   TEXT NOT NULL,
    id       TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL,
    cause    TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS granted (
    tenant TEXT NOT NULL,
    owner  TEXT NOT NULL,
    reader TEXT NOT NULL,
    by     TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    PRIMARY KEY (tenant, owner, reader)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS receipt (
    tenant TEXT NOT NULL,
    key    TEXT NOT NULL,
    salt   BLOB,
    digest BLOB,
    body   BLOB NOT NULL,
    at_ms  INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS receipt_in_time ON receipt (at_ms);

CREATE TABLE IF NOT EXISTS receipt_record (
    tenant TEXT NOT NULL,
    id     TEXT NOT NULL,
    key    TEXT NOT NULL,
    PRIMARY KEY (tenant, id, key)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS note (
    tenant     TEXT NOT NULL,
    collection TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      BLOB NOT NULL,
    PRIMARY KEY (tenant, collection, key)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS certificate (
    tenant TEXT NOT NULL,
    id     TEXT NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- write: insert_entry adds one journal entry; a sequence is used once
INSERT INTO journal (sequence, task, entry, hash) VALUES (?, ?, ?, ?)

-- write: insert_record adds one version of a record; a version is used once
INSERT INTO record (tenant, id, version, sequence, known_ms, ended_ms, expires_ms, episode, position, created_ms,
    episodic, subject, salt, body) VALUES (?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?, ?)

-- write: end_version says that a version is not the current one any more: ended_ms, tenant, id, version
UPDATE record SET ended_ms = ? WHERE tenant = ? AND id = ? AND version = ?

-- write: write_embedding keeps the vector of a version that is still there
INSERT INTO embedding (tenant, id, version, model, vector)
SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM record WHERE tenant = ?1 AND id = ?2 AND version = ?3)
ON CONFLICT (tenant, id, version) DO UPDATE SET model = excluded.model, vector = excluded.vector

-- write: insert_derivation says that a record was made from another: tenant, source, id
INSERT INTO derivation (tenant, source, id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING

-- write: insert_subject_derivation says of whom a record is that goes, as if it was made from them: tenant, id
INSERT INTO derivation (tenant, source, id)
SELECT DISTINCT tenant, 'subject:' || subject, id FROM record WHERE tenant = ? AND id = ? AND subject IS NOT NULL
ON CONFLICT DO NOTHING

-- write: write_grant lets a reader see what an owner keeps to itself
INSERT INTO granted (tenant, owner, reader, by, at_ms) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, owner, reader) DO UPDATE SET by = excluded.by, at_ms = excluded.at_ms

-- write: write_receipt keeps what came of a key
INSERT INTO receipt (tenant, key, salt, digest, body, at_ms, sequence) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, key) DO UPDATE SET salt = excluded.salt, digest = excluded.digest, body = excluded.body,
    at_ms = excluded.at_ms, sequence = excluded.sequence

-- write: insert_receipt brings back what came of a key, where nothing is known of the key
INSERT INTO receipt (tenant, key, salt, digest, body, at_ms, sequence) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, key) DO NOTHING

-- write: insert_certificate keeps the certificate of an erasure for good
INSERT INTO certificate (tenant, id, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING

-- write: insert_receipt_record says which records a receipt is about: tenant, id, key
INSERT INTO receipt_record (tenant, id, key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING

-- write: write_note keeps something beside the records: tenant, collection, key, value
INSERT INTO note (tenant, collection, key, value) VALUES (?, ?, ?, ?)
ON CONFLICT (tenant, collection, key) DO UPDATE SET value = excluded.value

-- write: insert_tombstone remembers that there was such a record, and nothing of it
INSERT INTO tombstone (tenant, id, sequence, at_ms, cause) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING

-- write: blind_receipts takes out of the receipts of a record what could be compared with its text: tenant, id, sequence
UPDATE receipt SET salt = NULL, digest = NULL
WHERE tenant = ?1 AND sequence < ?3 AND key IN (SELECT key FROM receipt_record WHERE tenant = ?1 AND id = ?2)

-- write: delete_versions of a record below a version: tenant, id, version
DELETE FROM record WHERE tenant = ? AND id = ? AND version < ?

-- write: delete_embeddings of a record below a version: tenant, id, version
DELETE FROM embedding WHERE tenant = ? AND id = ? AND version < ?

-- write: delete_derivations of a record: tenant, id
DELETE FROM derivation WHERE tenant = ? AND id = ?

-- write: delete_sources lets go of what named a record as its source: tenant, source
DELETE FROM derivation WHERE tenant = ? AND source = ?

-- write: delete_derivation from one source: tenant, source, id
DELETE FROM derivation WHERE tenant = ? AND source = ? AND id = ?

-- write: bridge_derivations past a record and its sources, those that are gone and that nothing alive names: tenant, id
INSERT INTO derivation (tenant, source, id)
WITH RECURSIVE near (id) AS (
    SELECT id FROM tombstone WHERE tenant = ?1 AND id = ?2
    UNION SELECT source FROM derivation WHERE tenant = ?1 AND id = ?2
), spent (id) AS (
    SELECT t.id FROM near JOIN tombstone t ON t.tenant = ?1 AND t.id = near.id WHERE NOT EXISTS (
        SELECT 1 FROM derivation d WHERE d.tenant = ?1 AND d.source = t.id
        AND NOT EXISTS (SELECT 1 FROM tombstone g WHERE g.tenant = ?1 AND g.id = d.id)
    )
), way (source, id) AS (
    SELECT d.source, d.id FROM spent JOIN derivation d ON d.tenant = ?1 AND d.id = spent.id
    WHERE d.source NOT IN (SELECT id FROM spent)
    UNION SELECT way.source, d.id FROM way JOIN derivation d ON d.tenant = ?1 AND d.source = way.id
    WHERE way.id IN (SELECT id FROM spent)
)
SELECT ?1, source, id FROM way WHERE id NOT IN (SELECT id FROM spent) AND source <> id
ON CONFLICT DO NOTHING

-- write: delete_bridged derivations of a record and its sources: tenant, id
WITH near (id) AS (
    SELECT id FROM tombstone WHERE tenant = ?1 AND id = ?2
    UNION SELECT source FROM derivation WHERE tenant = ?1 AND id = ?2
), spent (id) AS (
    SELECT t.id FROM near JOIN tombstone t ON t.tenant = ?1 AND t.id = near.id WHERE NOT EXISTS (
        SELECT 1 FROM derivation d WHERE d.tenant = ?1 AND d.source = t.id
        AND NOT EXISTS (SELECT 1 FROM tombstone g WHERE g.tenant = ?1 AND g.id = d.id)
    )
)
DELETE FROM derivation
WHERE tenant = ?1 AND (source IN (SELECT id FROM spent) OR id IN (SELECT id FROM spent))

-- write: delete_grant takes a grant back: tenant, owner, reader
DELETE FROM granted WHERE tenant = ? AND owner = ? AND reader = ?

-- write: delete_note
DELETE FROM note WHERE tenant = ? AND collection = ? AND key = ?

-- write: delete_receipt_records that belong to receipts older than a moment
DELETE FROM receipt_record WHERE (tenant, key) IN (SELECT tenant, key FROM receipt WHERE at_ms < ?)

-- write: delete_receipts older than a moment
DELETE FROM receipt WHERE at_ms < ?

-- query: head gives the last entry
SELECT sequence, hash FROM journal ORDER BY sequence DESC LIMIT 1

-- query: entries after a sequence, oldest first
SELECT sequence, entry, hash FROM journal WHERE sequence > ? ORDER BY sequence LIMIT ?

-- query: news after a sequence, oldest first, and before them the hash of what stands at it: sequence, limit
SELECT sequence, CASE WHEN sequence > ?1 THEN entry END, hash FROM journal
WHERE sequence >= ?1 ORDER BY sequence LIMIT ?2

-- query: entries_of_task after a sequence, oldest first
SELECT sequence, entry, hash FROM journal WHERE task = ? AND sequence > ? ORDER BY sequence LIMIT ?

-- query: chain of entries after a sequence, each with the task it is filed under
SELECT sequence, task, entry, hash FROM journal WHERE sequence > ? ORDER BY sequence LIMIT ?

-- query: current version of a record, with its vector
SELECT r.id, r.version, r.body, e.model, e.vector FROM record r LEFT JOIN embedding e USING (tenant, id, version)
WHERE r.tenant = ? AND r.id = ? AND r.ended_ms IS NULL

-- query: current_some of the records with these ids, 32 of them, with their vectors
SELECT r.id, r.version, r.body, e.model, e.vector FROM record r LEFT JOIN embedding e USING (tenant, id, version)
WHERE r.tenant = ? AND r.ended_ms IS NULL AND r.id IN (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
)

-- query: versions of a record, oldest first
SELECT r.id, r.version, r.body, e.model, r.ended_ms FROM record r LEFT JOIN embedding e USING (tenant, id, version)
WHERE r.tenant = ? AND r.id = ? ORDER BY r.version

-- query: live records of a tenant after an id, with their vectors
SELECT r.id, r.version, r.body, e.model, e.vector FROM record r LEFT JOIN embedding e USING (tenant, id, version)
WHERE r.tenant = ? AND r.id > ? AND r.ended_ms IS NULL ORDER BY r.id LIMIT ?

-- query: kept_versions of a record with their vectors, oldest first
SELECT r.id, r.version, r.body, e.model, e.vector, r.known_ms, r.ended_ms
FROM record r LEFT JOIN embedding e USING (tenant, id, version)
WHERE r.tenant = ? AND r.id = ? ORDER BY r.version

-- query: all_versions of a tenant after an id and version, with their vectors
SELECT r.id, r.version, r.body, e.model, e.vector, r.known_ms, r.ended_ms
FROM record r LEFT JOIN embedding e USING (tenant, id, version)
WHERE r.tenant = ? AND (r.id, r.version) > (?, ?) ORDER BY r.id, r.version LIMIT ?

-- query: ended_between finds whether a version was current at a moment and is not now: tenant, moment, moment
SELECT 1 FROM record WHERE tenant = ? AND ended_ms > ? AND known_ms <= ? AND ended_ms IS NOT NULL LIMIT 1

-- query: live_ids of a tenant
SELECT id FROM record WHERE tenant = ? AND ended_ms IS NULL ORDER BY id

-- query: live_count of a tenant
SELECT count(*) FROM record WHERE tenant = ? AND ended_ms IS NULL

-- query: tenants that have records or had some
SELECT DISTINCT tenant FROM record UNION SELECT DISTINCT tenant FROM tombstone ORDER BY 1

-- query: without_vector current records of a tenant whose vector is missing or of another model
SELECT r.id, r.version, r.body, e.model, NULL FROM record r LEFT JOIN embedding e USING (tenant, id, version)
WHERE r.tenant = ? AND r.ended_ms IS NULL AND (e.model IS NULL OR e.model <> ?) AND r.id > ? ORDER BY r.id LIMIT ?

-- query: tenants_without_vector of this model
SELECT DISTINCT r.tenant FROM record r LEFT JOIN embedding e USING (tenant, id, version)
WHERE r.ended_ms IS NULL AND (e.model IS NULL OR e.model <> ?) ORDER BY 1

-- query: last_position in an episode
SELECT max(position) FROM record WHERE tenant = ? AND episode = ? AND ended_ms IS NULL

-- query: episode before a position, latest first
SELECT r.id, r.version, r.body, e.model, e.vector FROM record r LEFT JOIN embedding e USING (tenant, id, version)
WHERE r.tenant = ? AND r.episode = ? AND r.position < ? AND r.ended_ms IS NULL ORDER BY r.position DESC, r.id DESC
LIMIT ? OFFSET ?

-- query: timeline before a moment, latest first
SELECT r.id, r.version, r.body, e.model, e.vector FROM record r LEFT JOIN embedding e USING (tenant, id, version)
WHERE r.tenant = ? AND r.created_ms < ? AND r.episodic = 1 AND r.ended_ms IS NULL
ORDER BY r.created_ms DESC, r.id DESC LIMIT ? OFFSET ?

-- query: subject_ids of which any version is about a subject
SELECT DISTINCT id FROM record WHERE tenant = ? AND subject = ? ORDER BY id

-- query: derived_from a record
SELECT id FROM derivation WHERE tenant = ? AND source = ? ORDER BY id

-- query: sources of a record
SELECT source FROM derivation WHERE tenant = ? AND id = ? ORDER BY source

-- query: due records: those that expired by a moment
SELECT tenant, id FROM record WHERE expires_ms <= ? AND ended_ms IS NULL ORDER BY tenant LIMIT ?

-- query: next_due moment
SELECT min(expires_ms) FROM record WHERE expires_ms IS NOT NULL AND ended_ms IS NULL

-- query: tombstone of a record
SELECT at_ms, cause FROM tombstone WHERE tenant = ? AND id = ?

-- query: tombstones of a tenant
SELECT id, at_ms, cause FROM tombstone WHERE tenant = ? ORDER BY id

-- query: last_change of a tenant's records: tenant, tenant
SELECT max(sequence) FROM (
    SELECT max(sequence) AS sequence FROM record WHERE tenant = ?
    UNION ALL SELECT max(sequence) FROM tombstone WHERE tenant = ?
) AS changes

-- query: grants of a tenant
SELECT owner, reader, by, at_ms FROM granted WHERE tenant = ? ORDER BY owner, reader

-- query: derivations of a tenant
SELECT source, id FROM derivation WHERE tenant = ? ORDER BY source, id

-- query: receipts of a tenant
SELECT key, salt, digest, body, at_ms FROM receipt WHERE tenant = ? ORDER BY key

-- query: certificate of an erasure
SELECT body FROM certificate WHERE tenant = ? AND id = ?

-- query: certificates of a tenant before an id, newest first
SELECT body FROM certificate WHERE tenant = ? AND id < ? ORDER BY id DESC LIMIT ?

-- query: salted records with what their digests are made of: tenant, id
SELECT salt, body FROM record WHERE tenant = ? AND id = ? AND ended_ms IS NULL

-- query: receipt of a key
SELECT salt, digest, body FROM receipt WHERE tenant = ? AND key = ?

-- query: note
SELECT value FROM note WHERE tenant = ? AND collection = ? AND key = ?

-- query: noted tenants, those that have a note: collection, key
SELECT tenant, value FROM note WHERE collection = ? AND key = ? ORDER BY tenant

-- query: notes of a collection
SELECT key, value FROM note WHERE tenant = ? AND collection = ? ORDER BY key
