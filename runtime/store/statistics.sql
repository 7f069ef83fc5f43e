-- schema of the statistics: DuckDB, a projection of the journals. What is under way is kept apart from what is over,
-- so that what is over is only ever added to, in the order of time.

CREATE TABLE made (by_version VARCHAR);
CREATE TABLE position (source VARCHAR PRIMARY KEY, sequence BIGINT NOT NULL, hash BLOB NOT NULL);

CREATE TABLE open_task (task VARCHAR, tenant VARCHAR, submitted_ms BIGINT, is_child BOOLEAN);
CREATE TABLE planned (task VARCHAR, base VARCHAR, capability VARCHAR, undo VARCHAR, confirm VARCHAR);
CREATE TABLE open_step (
    task VARCHAR, step VARCHAR, base VARCHAR, tenant VARCHAR, capability VARCHAR, settles BOOLEAN, sequence BIGINT,
    status VARCHAR, status_ms BIGINT, agent VARCHAR, price DOUBLE, in_vain DOUBLE, attempts BIGINT, retries BIGINT,
    down_ms BIGINT, latency_ms DOUBLE, model_cents DOUBLE, asked BOOLEAN, undone BOOLEAN, refusal VARCHAR,
    child_cents DOUBLE
);
CREATE TABLE open_question (
    approval VARCHAR, task VARCHAR, step VARCHAR, tenant VARCHAR, capability VARCHAR, sequence BIGINT, asked_ms BIGINT
);

CREATE TABLE ended_task (
    task VARCHAR, tenant VARCHAR, submitted_ms BIGINT, ended_ms BIGINT, status VARCHAR, cost_cents DOUBLE
);
CREATE TABLE ended_step AS FROM open_step LIMIT 0;
CREATE TABLE decided_question (
    approval VARCHAR, task VARCHAR, step VARCHAR, tenant VARCHAR, capability VARCHAR, asked_ms BIGINT,
    decided_ms BIGINT, decision VARCHAR, overridden BOOLEAN
);
CREATE TABLE model_call (
    at_ms BIGINT, tenant VARCHAR, agent VARCHAR, capability VARCHAR, tier VARCHAR, outcome VARCHAR, cents DOUBLE,
    tokens BIGINT
);
CREATE VIEW step AS FROM ended_step UNION ALL BY NAME FROM open_step;

CREATE TABLE bound (seconds DOUBLE, label VARCHAR);
INSERT INTO bound VALUES
    (0.005, '0.005'), (0.025, '0.025'), (0.1, '0.1'), (0.5, '0.5'), (2.5, '2.5'), (10, '10'), (60, '60'),
    (600, '600'), (3600, '3600'), (21600, '21600'), (86400, '86400'), (604800, '604800'), ('infinity', '+Inf');
CREATE TABLE named (tenant VARCHAR, capability VARCHAR);
CREATE TABLE total (
    tenant VARCHAR, metric VARCHAR, capability VARCHAR, label VARCHAR, value DOUBLE,
    PRIMARY KEY (tenant, metric, capability, label)
);

-- write: add_tasks that were submitted
INSERT INTO open_task SELECT task, tenant, at_ms, is_child FROM incoming_task

-- write: add_plans of them: which capability each step calls, and which one would undo it
INSERT INTO planned BY NAME FROM incoming_plan

-- write: merge_steps: what was known of a step and what the batch says of it; the later word counts
CREATE OR REPLACE TEMP TABLE touched AS
WITH part AS (
    FROM incoming_step
    UNION ALL BY NAME
    SELECT * EXCLUDE (tenant, capability, settles) FROM open_step WHERE task IN (SELECT task FROM incoming_step)
), merged AS (
    SELECT task, step, any_value(base) AS base, max(sequence) AS sequence,
        arg_max(status, sequence) AS status, arg_max(status_ms, sequence) AS status_ms,
        arg_max(agent, sequence) AS agent, arg_max(price, sequence) AS price,
        sum(in_vain) AS in_vain, max(attempts) AS attempts,
        sum(retries)::BIGINT AS retries, min(down_ms) AS down_ms, arg_max(latency_ms, sequence) AS latency_ms,
        arg_max(model_cents, sequence) AS model_cents, bool_or(asked) AS asked, bool_or(undone) AS undone,
        arg_max(refusal, sequence) AS refusal, sum(child_cents) AS child_cents
    FROM part GROUP BY task, step
)
SELECT merged.*, tenant, step LIKE '%~' OR step LIKE '%+' AS settles,
    CASE WHEN step LIKE '%~' THEN undo WHEN step LIKE '%+' THEN confirm ELSE capability END AS capability
FROM merged JOIN open_task USING (task) LEFT JOIN planned USING (task, base)

-- write: drop_merged steps as they were
DELETE FROM open_step WHERE (task, step) IN (SELECT task, step FROM touched)

-- write: keep_merged steps as they are now
INSERT INTO open_step BY NAME FROM touched

-- write: land_steps whose last word came in this batch
CREATE OR REPLACE TEMP TABLE landed AS
FROM touched WHERE (task, step) IN (SELECT task, step FROM incoming_step WHERE status IN ('completed', 'failed'))

-- write: add_questions to people
INSERT INTO open_question BY NAME
SELECT approval, task, step, tenant, capability, sequence, at_ms AS asked_ms
FROM incoming_question JOIN open_task USING (task) LEFT JOIN planned USING (task, base)

-- write: answer_questions: each decision belongs to the last question before it
CREATE OR REPLACE TEMP TABLE answered AS
SELECT q.*, d.at_ms AS decided_ms, d.decision, d.overridden
FROM incoming_decision d ASOF JOIN open_question q ON d.approval = q.approval AND d.sequence > q.sequence

-- write: keep_answered questions
INSERT INTO decided_question BY NAME SELECT * EXCLUDE (sequence) FROM answered

-- write: drop_answered questions
DELETE FROM open_question WHERE (approval, sequence) IN (SELECT approval, sequence FROM answered)

-- write: add_model_calls
INSERT INTO model_call BY NAME FROM incoming_call

-- write: end_tasks: what a child task cost is part of what its parent did
CREATE OR REPLACE TEMP TABLE gone AS
SELECT task, tenant, submitted_ms, at_ms AS ended_ms, status, CASE WHEN is_child THEN 0 ELSE cost_cents END AS cost_cents
FROM incoming_end JOIN open_task USING (task)

-- write: keep_tasks that ended
INSERT INTO ended_task BY NAME FROM gone

-- write: keep_steps of theirs
INSERT INTO ended_step BY NAME FROM open_step WHERE task IN (SELECT task FROM gone)

-- write: drop_steps of theirs
DELETE FROM open_step WHERE task IN (SELECT task FROM gone)

-- write: drop_questions of theirs, which are void
DELETE FROM open_question WHERE task IN (SELECT task FROM gone)

-- write: drop_plans of theirs
DELETE FROM planned WHERE task IN (SELECT task FROM gone)

-- write: drop_tasks that are over
DELETE FROM open_task WHERE task IN (SELECT task FROM gone)

-- write: name_capabilities: the first hundred of a tenant have a series of their own, for ever; the rest share one
INSERT INTO named
SELECT tenant, capability FROM (
    SELECT tenant, capability, row_number() OVER (PARTITION BY tenant ORDER BY min(sequence), capability) AS place
    FROM touched WHERE capability IS NOT NULL AND (tenant, capability) NOT IN (FROM named) GROUP BY tenant, capability
) LEFT JOIN (SELECT tenant, count(*) AS known FROM named GROUP BY tenant) USING (tenant)
WHERE place + coalesce(known, 0) <= 100

-- write: measure_spans that came to their end in this batch, in seconds
CREATE OR REPLACE TEMP TABLE span AS
SELECT tenant, 'task_seconds' AS metric, '' AS capability, (ended_ms - submitted_ms) / 1000 AS seconds
FROM gone WHERE status = 'completed'
UNION ALL SELECT tenant, 'step_seconds', capability, latency_ms / 1000
FROM landed WHERE status = 'completed' AND latency_ms IS NOT NULL
UNION ALL SELECT tenant, 'step_recovery_seconds', capability, (status_ms - down_ms) / 1000
FROM landed WHERE status = 'completed' AND down_ms IS NOT NULL
UNION ALL SELECT tenant, 'approval_seconds', '', (decided_ms - asked_ms) / 1000 FROM answered WHERE decision <> 'expired'

-- write: add_totals: what each series grew by; those of spans are cumulative by bound, as histograms are
INSERT INTO total
SELECT tenant, metric, CASE WHEN c = '' OR (tenant, c) IN (FROM named) THEN c ELSE 'other' END, label, sum(value)
FROM (
    SELECT tenant, 'tasks' AS metric, '' AS c, status AS label, count(*)::DOUBLE AS value FROM gone GROUP BY ALL
    UNION ALL SELECT tenant, 'task_cents', '', '', sum(cost_cents) FROM gone GROUP BY ALL
    UNION ALL SELECT tenant, 'steps', coalesce(capability, ''), status, count(*) FROM landed GROUP BY ALL
    UNION ALL SELECT tenant, 'step_cents', coalesce(capability, ''), '',
        sum(CASE WHEN status = 'completed' THEN greatest(price - child_cents, in_vain) ELSE in_vain END)
    FROM landed WHERE NOT settles GROUP BY ALL
    UNION ALL SELECT tenant, 'step_model_cents', coalesce(capability, ''), '', sum(model_cents)
    FROM landed WHERE status = 'completed' AND NOT settles AND model_cents IS NOT NULL GROUP BY ALL
    UNION ALL SELECT tenant, 'step_retries', coalesce(capability, ''), '', sum(retries) FROM landed GROUP BY ALL
    UNION ALL SELECT tenant, 'step_refusals', coalesce(capability, ''), refusal, count(*)
    FROM landed WHERE status = 'failed' AND refusal IS NOT NULL GROUP BY ALL
    UNION ALL SELECT tenant, 'compensations', coalesce(capability, ''), '', count(*)
    FROM landed WHERE step LIKE '%~' AND status = 'completed' GROUP BY ALL
    UNION ALL SELECT tenant, 'approvals', '', decision, count(*) FROM answered GROUP BY ALL
    UNION ALL SELECT tenant, 'model_calls', '', coalesce(tier, ''), count(*) FROM incoming_call GROUP BY ALL
    UNION ALL SELECT tenant, metric, coalesce(capability, ''), label, count(*) FILTER (span.seconds <= bound.seconds)
    FROM span CROSS JOIN bound GROUP BY ALL
    UNION ALL SELECT tenant, metric, coalesce(capability, ''), 'sum', sum(seconds) FROM span GROUP BY ALL
)
WHERE tenant IS NOT NULL AND value IS NOT NULL GROUP BY ALL
ON CONFLICT DO UPDATE SET value = value + excluded.value

-- query: position of a source: its last entry that was read, and that entry's hash
SELECT sequence, hash FROM position WHERE source = $source

-- query: totals of a tenant since the beginning
SELECT metric, capability, label, value FROM total WHERE tenant = $tenant
ORDER BY metric, capability, try_cast(label AS DOUBLE), label

-- query: tasks that ended in a window, by what each called: status counts, cost, people, compensation, time to the end
WITH called AS (
    SELECT e.task, e.status, e.ended_ms - e.submitted_ms AS lasted_ms,
        CASE $by WHEN 'capability' THEN s.capability WHEN 'agent' THEN s.agent WHEN 'tenant' THEN e.tenant ELSE '' END
            AS name,
        coalesce(sum(CASE WHEN s.status = 'completed' THEN greatest(s.price - s.child_cents, s.in_vain) ELSE s.in_vain END), 0)
            AS cents,
        coalesce(sum(s.model_cents) FILTER (s.status = 'completed'), 0) AS model_cents,
        coalesce(bool_or(s.asked), false) AS asked, coalesce(bool_or(s.undone), false) AS undone
    FROM ended_task e LEFT JOIN step s ON s.task = e.task AND NOT s.settles AND s.status <> 'skipped'
    WHERE e.tenant = $tenant AND e.ended_ms > $since AND e.ended_ms <= $until
    GROUP BY ALL
)
SELECT name, count(*) AS tasks, count(*) FILTER (status = 'completed') AS completed,
    count(*) FILTER (status = 'failed') AS failed, count(*) FILTER (status = 'canceled') AS canceled,
    sum(cents) AS cost_cents, sum(model_cents) AS model_cents, count(*) FILTER (asked) AS asked,
    count(*) FILTER (undone) AS compensated,
    list_concat(
        [count(*) FILTER (status = 'completed')],
        quantile_disc(lasted_ms, [0.5, 0.95, 0.99]) FILTER (status = 'completed')
    ) AS lasting
FROM called WHERE name IS NOT NULL GROUP BY name

-- query: steps that were settled in a window, by whose they are: attempts, recovery, latency
SELECT CASE $by WHEN 'capability' THEN capability WHEN 'agent' THEN agent WHEN 'tenant' THEN tenant ELSE '' END AS name,
    count(*) FILTER (attempts > 0) AS steps, coalesce(sum(retries) FILTER (attempts > 0), 0) AS retries,
    list_concat(
        [count(*) FILTER (status = 'completed' AND down_ms IS NOT NULL)],
        quantile_disc(status_ms - down_ms, [0.5, 0.95, 0.99])
            FILTER (status = 'completed' AND down_ms IS NOT NULL)
    ) AS recovering,
    list_concat(
        [count(latency_ms) FILTER (status = 'completed')],
        quantile_disc(latency_ms, [0.5, 0.95, 0.99]) FILTER (status = 'completed' AND latency_ms IS NOT NULL)
    ) AS calling
FROM step
WHERE tenant = $tenant AND status IN ('completed', 'failed') AND status_ms > $since AND status_ms <= $until
    AND name IS NOT NULL
GROUP BY name

-- query: refusals by policy of steps that were settled in a window, by whose they are
SELECT CASE $by WHEN 'capability' THEN capability WHEN 'agent' THEN agent WHEN 'tenant' THEN tenant ELSE '' END AS name,
    refusal, count(*) AS count
FROM step
WHERE tenant = $tenant AND status = 'failed' AND refusal IS NOT NULL AND status_ms > $since AND status_ms <= $until
    AND name IS NOT NULL
GROUP BY ALL ORDER BY ALL

-- query: decisions that people made in a window, by whose question it was
SELECT CASE $by WHEN 'capability' THEN q.capability WHEN 'agent' THEN s.agent WHEN 'tenant' THEN q.tenant ELSE '' END
        AS name,
    count(*) AS decided, count(*) FILTER (overridden) AS overridden,
    list_concat([count(*)], quantile_disc(decided_ms - asked_ms, [0.5, 0.95, 0.99])) AS deciding
FROM decided_question q LEFT JOIN step s ON $by = 'agent' AND s.task = q.task AND s.step = q.step
WHERE q.tenant = $tenant AND decision <> 'expired' AND decided_ms > $since AND decided_ms <= $until AND name IS NOT NULL
GROUP BY name

-- query: model_calls in a window, by who made them
SELECT CASE $by WHEN 'capability' THEN capability WHEN 'agent' THEN agent WHEN 'tenant' THEN tenant ELSE '' END AS name,
    count(*) AS model_calls, sum(tokens)::BIGINT AS model_tokens, sum(cents) AS pool_cents
FROM model_call WHERE tenant = $tenant AND at_ms > $since AND at_ms <= $until AND name IS NOT NULL
GROUP BY name

-- query: trend of the tasks that ended, in equal parts of the window
SELECT least(((ended_ms - $since - 1) * $parts // ($until - $since))::BIGINT, $parts - 1) AS part, count(*) AS tasks,
    count(*) FILTER (status = 'completed') AS completed
FROM ended_task WHERE tenant = $tenant AND ended_ms > $since AND ended_ms <= $until
GROUP BY part ORDER BY part

-- query: advance a source's position
INSERT INTO position VALUES ($source, $sequence, $hash)
ON CONFLICT DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash

-- query: maker is the version that made these tables
SELECT by_version FROM made

-- query: sign the tables just made
INSERT INTO made VALUES ($version)

-- query: entries_read of all sources
SELECT coalesce(sum(sequence), 0)::BIGINT AS entries FROM position
