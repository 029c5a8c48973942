-- Times are Unix seconds (UTC). Lists and mappings are JSON. States: dsaflow.runs.states.State.

-- number of the last event applied: the order of events over all files
CREATE TABLE sequence (last INTEGER NOT NULL);
INSERT INTO sequence VALUES (0);

CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,                     -- run, mosaic, batch, watch, snakemake
    state TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,    -- larger first: API and command 10, watch 0
    requested_by TEXT NOT NULL DEFAULT '',
    workdir TEXT NOT NULL,
    profile TEXT NOT NULL DEFAULT '',
    configfiles TEXT NOT NULL DEFAULT '[]',
    arguments TEXT NOT NULL DEFAULT '[]',   -- further arguments of Snakemake, fixed by dsaflow
    targets TEXT NOT NULL DEFAULT '[]',
    group_ids TEXT NOT NULL DEFAULT '[]',
    options TEXT NOT NULL DEFAULT '{}',     -- what the request asked for (batch stage, timespan, ...)
    created_s REAL NOT NULL,
    started_s REAL,
    ended_s REAL,
    attempt INTEGER NOT NULL DEFAULT 0,     -- starts of Snakemake so far
    retry_count INTEGER NOT NULL DEFAULT 0, -- most executions of one job less one, or attempts less one
    next_retry_s REAL,
    exit_code INTEGER,
    error_class TEXT,
    error_message TEXT,
    jobs_done INTEGER NOT NULL DEFAULT 0,
    jobs_total INTEGER NOT NULL DEFAULT 0,
    folder TEXT NOT NULL DEFAULT '',        -- events, log and exit codes of the run
    log_path TEXT NOT NULL DEFAULT '',
    host TEXT, boot_id TEXT,
    supervisor_pid INTEGER, supervisor_start TEXT,
    snakemake_pid INTEGER, snakemake_start TEXT,
    slurm_run_id TEXT,
    idempotency_key TEXT
);
CREATE UNIQUE INDEX one_live_run ON runs (workdir)
    WHERE state IN ('INITIALIZING', 'RUNNING', 'PAUSED', 'CANCELING');
CREATE UNIQUE INDEX run_by_idempotency_key ON runs (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_by_state ON runs (state, priority DESC, created_s);
CREATE INDEX runs_by_time ON runs (created_s);

-- what a run's newest attempt had to do when it began
CREATE TABLE run_plans (
    run_id TEXT PRIMARY KEY REFERENCES runs (run_id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    planned TEXT NOT NULL                   -- rule -> items, or their number
);

CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY,                -- <run_id>.<attempt>.<Snakemake's jobid>.<execution>
    run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,               -- of the run
    snakemake_jobid INTEGER NOT NULL,
    execution INTEGER NOT NULL,             -- of this rule and these wildcards in the run, from 1
    rule TEXT NOT NULL,
    wildcards TEXT NOT NULL DEFAULT '{}',
    item TEXT NOT NULL DEFAULT '',          -- the wildcards' values: tile, group_id, strip
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    threads INTEGER,
    resources TEXT NOT NULL DEFAULT '{}',
    inputs TEXT NOT NULL DEFAULT '[]',
    outputs TEXT NOT NULL DEFAULT '[]',
    log_path TEXT NOT NULL DEFAULT '',
    benchmark_path TEXT NOT NULL DEFAULT '',
    slurm_job_id INTEGER,
    started_s REAL,
    ended_s REAL,
    error_class TEXT,
    error_message TEXT
);
CREATE INDEX jobs_by_run ON jobs (run_id, started_s);
CREATE INDEX jobs_by_item ON jobs (item, rule);
CREATE INDEX jobs_by_rule ON jobs (rule, state, started_s);

CREATE TABLE mosaic_groups (
    group_id TEXT PRIMARY KEY,
    run_id TEXT,                            -- the run that makes or made it last
    centre TEXT NOT NULL DEFAULT '',
    calibrator TEXT,
    transit_mjd REAL,
    start_mjd REAL,
    end_mjd REAL,
    strip TEXT NOT NULL DEFAULT '',
    stage TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL,
    tiles TEXT NOT NULL DEFAULT '[]',
    tiles_used INTEGER,
    tiles_rejected INTEGER,
    outcome TEXT NOT NULL DEFAULT '',       -- published, withheld, retracted, or empty
    published_path TEXT NOT NULL DEFAULT '',
    error_message TEXT,
    error_class TEXT,
    retry_count INTEGER NOT NULL DEFAULT 0,
    next_retry_s REAL,
    created_s REAL NOT NULL,
    updated_s REAL NOT NULL
);
CREATE INDEX groups_by_state ON mosaic_groups (state, updated_s);
CREATE INDEX groups_by_run ON mosaic_groups (run_id);

CREATE TABLE products (
    product_id TEXT PRIMARY KEY,            -- <group_id>, or <group_id>.v<n> of a published version
    group_id TEXT NOT NULL,
    kind TEXT NOT NULL,                     -- mosaic
    state TEXT NOT NULL,                    -- staged, published, withheld, retracted
    path TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 0,
    checksum TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    run_id TEXT,
    updated_s REAL NOT NULL
);
CREATE INDEX products_by_state ON products (state, updated_s);
CREATE INDEX products_by_group ON products (group_id);

CREATE TABLE quarantine (
    item TEXT PRIMARY KEY,                  -- <stage>/<tile, group_id or file name>
    stage TEXT NOT NULL,
    reason_code TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    path TEXT NOT NULL DEFAULT '',          -- the verdict, or the file
    state TEXT NOT NULL,                    -- open, retrying, resolved
    note TEXT NOT NULL DEFAULT '',
    times_seen INTEGER NOT NULL DEFAULT 1,
    first_seen_s REAL NOT NULL,
    last_seen_s REAL NOT NULL
);
CREATE INDEX quarantine_by_state ON quarantine (state, last_seen_s);

CREATE TABLE alerts (
    alert_id TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    subject TEXT NOT NULL,                  -- what it is about: two alerts of one rule and subject are one
    severity TEXT NOT NULL,
    message TEXT NOT NULL,
    run_id TEXT,
    state TEXT NOT NULL,                    -- sent, failed, deduplicated, silenced, dry-run
    error TEXT NOT NULL DEFAULT '',
    time_s REAL NOT NULL
);
CREATE INDEX alerts_by_time ON alerts (time_s);
CREATE INDEX alerts_by_subject ON alerts (rule, subject, time_s);

CREATE TABLE stage_timings (
    job_id TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    seconds REAL NOT NULL,
    succeeded INTEGER NOT NULL,
    ended_s REAL NOT NULL
);
CREATE INDEX timings_by_rule ON stage_timings (rule, ended_s);
CREATE INDEX timings_by_time ON stage_timings (ended_s, rule, succeeded);

CREATE TABLE reviews (
    candidate_id TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reviewer TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    time_s REAL NOT NULL
);
CREATE INDEX reviews_by_candidate ON reviews (candidate_id, time_s);

-- rule logs and events, a row a line or event; unindexed columns only filter
CREATE VIRTUAL TABLE log_lines USING fts5 (
    text, source UNINDEXED, run_id UNINDEXED, rule UNINDEXED, item UNINDEXED,
    level UNINDEXED, time_s UNINDEXED
);
CREATE TABLE indexed_logs (
    path TEXT PRIMARY KEY,
    run_id TEXT NOT NULL DEFAULT '',
    size INTEGER NOT NULL,                  -- bytes indexed
    mtime_ns INTEGER NOT NULL,
    head TEXT NOT NULL                      -- digest of its beginning: another once it is written anew
);
