-- schema of a coordinator shard
-- with: tree

CREATE TABLE IF NOT EXISTS writer ("only" INTEGER PRIMARY KEY CHECK ("only" = 1), epoch INTEGER NOT NULL);
INSERT INTO writer VALUES (1, 0) ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS journal (
    sequence INTEGER PRIMARY KEY,
    task     TEXT,
    entry    BLOB NOT NULL,
    hash     BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS journal_of_task ON journal (task, sequence) WHERE task IS NOT NULL;

CREATE TABLE IF NOT EXISTS task (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    key        TEXT,
    body       TEXT NOT NULL,
    status     TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS task_of_key ON task (tenant, key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS task_of_tenant ON task (tenant, id);
DROP INDEX IF EXISTS task_open;
CREATE INDEX IF NOT EXISTS task_not_ended ON task (id) WHERE status NOT IN ('completed', 'failed', 'canceled');

CREATE TABLE IF NOT EXISTS approval (
    id       TEXT PRIMARY KEY,
    tenant   TEXT NOT NULL,
    task     TEXT NOT NULL,
    decision TEXT NOT NULL,
    body     BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS approval_of_tenant ON approval (tenant, decision, id);

CREATE TABLE IF NOT EXISTS contract (
    digest TEXT PRIMARY KEY,
    body   BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS spent (
    tenant        TEXT NOT NULL,
    day           TEXT NOT NULL,
    microcents    INTEGER NOT NULL,
    tokens        INTEGER NOT NULL,
    micro_minutes INTEGER NOT NULL,
    PRIMARY KEY (tenant, day)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS notice (
    id     TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    body   BLOB NOT NULL,
    told   TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

-- write: insert_notice puts something that people are to be told into the outbox
INSERT INTO notice (id, tenant, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING

-- write: tell_notice says that one of those who listen has got it: all who have, id
UPDATE notice SET told = ? WHERE id = ?

-- write: delete_notice takes it out: everybody has got it
DELETE FROM notice WHERE id = ?

-- write: insert_entry adds one journal entry; a sequence is used once
INSERT INTO journal (sequence, task, entry, hash) VALUES (?, ?, ?, ?)

-- write: insert_task acknowledges a task
INSERT INTO task (id, tenant, key, body, status, created_ms, updated_ms) VALUES (?, ?, ?, ?, ?, ?, ?)

-- write: update_task says how a task stands: status, updated_ms, id
UPDATE task SET status = ?, updated_ms = ? WHERE id = ?

-- write: write_approval keeps a question and its decision
INSERT INTO approval (id, tenant, task, decision, body) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET decision = excluded.decision, body = excluded.body

-- write: make_stone leaves of an entry its leaf hash, and files it under no task: stone, sequence
UPDATE journal SET entry = ?, task = NULL WHERE sequence = ?

-- write: forget_approvals of a task: its id, twice
DELETE FROM approval WHERE id >= ? || ':' AND id < ? || ';'

-- write: forget_task that ended, with its idempotency key
DELETE FROM task WHERE id = ?

-- write: keep_contract for as long as there may be tasks that rely on it
INSERT INTO contract (digest, body) VALUES (?, ?) ON CONFLICT DO NOTHING

-- query: contract by digest
SELECT body FROM contract WHERE digest = ?

-- write: add_spent sums up what a tenant's tasks spent on a day: tenant, day, microcents, tokens, millionths of minutes
INSERT INTO spent (tenant, day, microcents, tokens, micro_minutes) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, day) DO UPDATE SET microcents = spent.microcents + excluded.microcents,
    tokens = spent.tokens + excluded.tokens, micro_minutes = spent.micro_minutes + excluded.micro_minutes

-- query: spent_on_day by a tenant
SELECT microcents, tokens, micro_minutes FROM spent WHERE tenant = ? AND day = ?

-- query: notices that somebody has yet to get, oldest first
SELECT id, tenant, body, told FROM notice WHERE id > '' ORDER BY id LIMIT ?

-- query: head gives the last entry
SELECT sequence, hash FROM journal ORDER BY sequence DESC LIMIT 1

-- query: reign is the epoch of whoever opened this last
SELECT epoch FROM writer WHERE "only" = 1

-- query: entries after a sequence, oldest first, but for those of which compaction has left only hashes
SELECT sequence, entry, hash FROM journal WHERE sequence > ? AND substr(entry, 1, 1) <> x'00'
ORDER BY sequence LIMIT ?

-- query: chain of entries after a sequence, each with the task it is filed under
SELECT sequence, task, entry, hash FROM journal WHERE sequence > ? ORDER BY sequence LIMIT ?

-- query: entries_of_task after a sequence, oldest first
SELECT sequence, entry, hash FROM journal WHERE task = ? AND sequence > ? ORDER BY sequence LIMIT ?

-- query: entries_of_tenant after a sequence, oldest first: of the tenant's tasks, and of the federation itself
SELECT sequence, entry, hash FROM journal LEFT JOIN task ON task.id = journal.task
WHERE sequence > ? AND (journal.task IS NULL AND substr(entry, 1, 1) <> x'00' OR task.tenant = ?)
ORDER BY sequence LIMIT ?

-- query: subtree root by level and number
SELECT root FROM subtree WHERE level = ? AND number = ?

-- query: task by id
SELECT id, tenant, key, body, status, created_ms, updated_ms FROM task WHERE id = ?

-- query: task_ids after an id, oldest first
SELECT id FROM task WHERE id > ? ORDER BY id LIMIT ?

-- query: task_by_key of a tenant
SELECT id, tenant, key, body, status, created_ms, updated_ms FROM task WHERE tenant = ? AND key = ?

-- query: open_tasks are those that recovery takes up again: all that do not say that they ended, with one bit flipped too
SELECT id FROM task WHERE status NOT IN ('completed', 'failed', 'canceled') ORDER BY id

-- query: tasks of a tenant before an id, newest first
SELECT id, tenant, key, body, status, created_ms, updated_ms FROM task
WHERE tenant = ? AND id < ? ORDER BY id DESC LIMIT ?

-- query: tasks_with_status of a tenant before an id, newest first
SELECT id, tenant, key, body, status, created_ms, updated_ms FROM task
WHERE tenant = ? AND id < ? AND status = ? ORDER BY id DESC LIMIT ?

-- query: ended_before a moment, after an id: tasks that ended, with their idempotency key
SELECT id, tenant, key, status, updated_ms FROM task
WHERE id > ? AND status IN ('completed', 'failed', 'canceled') AND updated_ms < ? ORDER BY id LIMIT ?

-- query: ended_counts per tenant and status, of all tasks that have ended
SELECT tenant, status, count(*) FROM task WHERE status IN ('completed', 'failed', 'canceled') GROUP BY tenant, status

-- query: approvals of a tenant with a decision
SELECT body FROM approval WHERE tenant = ? AND decision = ? ORDER BY id

-- query: pending_count is how many questions of a tenant wait for a person
SELECT count(*) FROM approval WHERE tenant = ? AND decision = 'pending'

-- query: all_approvals of a tenant
SELECT body FROM approval WHERE tenant = ? ORDER BY id

-- query: approval by id
SELECT tenant, decision, body FROM approval WHERE id = ?
