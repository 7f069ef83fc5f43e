-- schema of the model pool
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

CREATE TABLE IF NOT EXISTS call (
    tenant   TEXT NOT NULL,
    id       TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS words (
    tenant TEXT NOT NULL,
    digest TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (tenant, digest)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS words_by_age ON words (at_ms);

CREATE TABLE IF NOT EXISTS reservation (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    day        TEXT NOT NULL,
    task       TEXT NOT NULL,
    step       TEXT NOT NULL,
    tier       TEXT NOT NULL,
    microcents INTEGER NOT NULL,
    until_ms   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS usage (
    tenant            TEXT NOT NULL,
    day               TEXT NOT NULL,
    task              TEXT NOT NULL,
    step              TEXT NOT NULL,
    tier              TEXT NOT NULL,
    calls             INTEGER NOT NULL,
    attempts          INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    microcents        INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, task, step, tier)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS usage_of_step ON usage (tenant, task, step) WHERE task != '';

-- write: insert_entry adds one journal entry; a sequence is used once
INSERT INTO journal (sequence, task, entry, hash) VALUES (?, ?, ?, ?)

-- write: insert_call says where a call stands in the journal: tenant, id, sequence
INSERT INTO call (tenant, id, sequence) VALUES (?, ?, ?)

-- write: keep_words of a prompt or an answer, once for all calls that have them: tenant, digest, at_ms, body
INSERT INTO words (tenant, digest, at_ms, body) VALUES (?, ?, ?, ?)
ON CONFLICT (tenant, digest) DO UPDATE SET at_ms = excluded.at_ms

-- write: forget_words that nobody used since
DELETE FROM words WHERE at_ms < ?

-- write: insert_reservation holds money for one attempt: id, tenant, day, task, step, tier, microcents, until_ms
INSERT INTO reservation (id, tenant, day, task, step, tier, microcents, until_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- write: delete_reservation when it is settled, or has lapsed
DELETE FROM reservation WHERE id = ?

-- write: add_usage to a tenant's day: tenant, day, task, step, tier, calls, attempts, tokens in and out, microcents
INSERT INTO usage (tenant, day, task, step, tier, calls, attempts, prompt_tokens, completion_tokens, microcents)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, day, task, step, tier) DO UPDATE SET
    calls = usage.calls + excluded.calls, attempts = usage.attempts + excluded.attempts,
    prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = usage.completion_tokens + excluded.completion_tokens,
    microcents = usage.microcents + excluded.microcents

-- query: head gives the last entry
SELECT sequence, hash FROM journal ORDER BY sequence DESC LIMIT 1

-- query: entries after a sequence, oldest first
SELECT sequence, entry, hash FROM journal WHERE sequence > ? ORDER BY sequence LIMIT ?

-- query: chain of entries after a sequence, each with the task it is filed under
SELECT sequence, task, entry, hash FROM journal WHERE sequence > ? ORDER BY sequence LIMIT ?

-- query: entries_of_task after a sequence, oldest first
SELECT sequence, entry, hash FROM journal WHERE task = ? AND sequence > ? ORDER BY sequence LIMIT ?

-- query: calls of a tenant before an id, newest first
SELECT call.id, journal.entry FROM call JOIN journal ON journal.sequence = call.sequence
WHERE call.tenant = ? AND call.id < ? ORDER BY call.id DESC LIMIT ?

-- query: words of a digest
SELECT body FROM words WHERE tenant = ? AND digest = ?

-- query: reservations that nobody has settled
SELECT id, tenant, day, task, step, tier, microcents, until_ms FROM reservation ORDER BY id

-- query: spent_on_day by a tenant
SELECT coalesce(sum(microcents), 0) FROM usage WHERE tenant = ? AND day = ?

-- query: spent_on_task
SELECT coalesce(sum(microcents), 0) FROM usage WHERE tenant = ? AND task = ? AND task != ''

-- query: spent_on_step
SELECT coalesce(sum(microcents), 0) FROM usage WHERE tenant = ? AND task = ? AND step = ? AND task != ''

-- query: usage_by_day of a tenant since a day
SELECT day, '', tier, sum(calls), sum(attempts), sum(prompt_tokens), sum(completion_tokens), sum(microcents)
FROM usage WHERE tenant = ? AND day >= ? GROUP BY day, tier ORDER BY day, tier

-- query: usage_by_task of a tenant since a day
SELECT day, task, tier, sum(calls), sum(attempts), sum(prompt_tokens), sum(completion_tokens), sum(microcents)
FROM usage WHERE tenant = ? AND day >= ? GROUP BY day, task, tier ORDER BY day, task, tier

-- query: usage_by_tier of everybody
SELECT tier, sum(calls), sum(prompt_tokens + completion_tokens), sum(microcents) FROM usage GROUP BY tier
