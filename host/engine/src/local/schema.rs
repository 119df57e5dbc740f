//! The format of the journal file, one step per version. Steps are only added, never changed.

/// `MIGRATIONS[n]` brings format n to format n + 1.
pub(super) const MIGRATIONS: [&str; 5] = [FORMAT_1, FORMAT_2, FORMAT_3, FORMAT_4, FORMAT_5];

/// - `journal` is the truth: every event of every run, numbered without gaps. All else of a run can be computed from
///   it and its definition.
/// - `snapshot` saves reading a long journal again. It is apart from `run` so that a change of the status does not
///   rewrite it.
/// - `task` holds what is scheduled: attempts, retries and leases are here and not in the journal, because they do
///   not change what the run computes.
/// - `task_ready` and `task_delayed` hold only what waits, in the order in which it is taken: dispatch reads the first
///   entries and never scans or sorts a backlog.
const FORMAT_1: &str = "
CREATE TABLE meta(
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE owner(
  id            INTEGER PRIMARY KEY CHECK (id = 1),
  epoch         INTEGER NOT NULL,
  pid           INTEGER NOT NULL,
  started_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE definition(
  id               INTEGER PRIMARY KEY,
  digest           TEXT NOT NULL UNIQUE,
  first_used_at_ms INTEGER NOT NULL,
  body             TEXT NOT NULL
) STRICT;

CREATE TABLE run(
  id            INTEGER PRIMARY KEY,
  execution     TEXT NOT NULL UNIQUE,
  definition    INTEGER NOT NULL REFERENCES definition(id),
  workflow      TEXT NOT NULL,
  behaviour     INTEGER NOT NULL,
  priority      INTEGER NOT NULL DEFAULT 0,
  status        TEXT NOT NULL,
  started_at_ms INTEGER NOT NULL,
  ended_at_ms   INTEGER
) STRICT;
CREATE INDEX run_open ON run(id) WHERE ended_at_ms IS NULL;

CREATE TABLE snapshot(
  run   INTEGER PRIMARY KEY REFERENCES run(id),
  seq   INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  state TEXT NOT NULL
) STRICT;

CREATE TABLE journal(
  run   INTEGER NOT NULL REFERENCES run(id),
  seq   INTEGER NOT NULL CHECK (seq > 0),
  at_ms INTEGER NOT NULL,
  kind  TEXT NOT NULL,
  body  TEXT NOT NULL,
  PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE task(
  id              INTEGER PRIMARY KEY,
  run             INTEGER NOT NULL REFERENCES run(id),
  key             TEXT NOT NULL,
  queue           TEXT NOT NULL,
  priority        INTEGER NOT NULL DEFAULT 0,
  state           TEXT NOT NULL CHECK (state IN ('ready', 'running', 'delayed', 'done', 'failed', 'canceled')),
  attempt         INTEGER NOT NULL DEFAULT 0,
  failed          INTEGER NOT NULL DEFAULT 0,
  epoch           INTEGER NOT NULL DEFAULT 0,
  not_before_ms   INTEGER NOT NULL DEFAULT 0,
  scheduled_at_ms INTEGER NOT NULL,
  deadline_ms     INTEGER,
  started_at_ms   INTEGER,
  ended_at_ms     INTEGER,
  ran             TEXT,
  last_failure    TEXT,
  call            TEXT NOT NULL,
  UNIQUE (run, key)
) STRICT;
CREATE INDEX task_ready   ON task(priority, id)      WHERE state = 'ready';
CREATE INDEX task_delayed ON task(not_before_ms, id) WHERE state = 'delayed';
CREATE INDEX task_running ON task(id)                WHERE state = 'running';

CREATE TABLE idempotency(
  key     TEXT PRIMARY KEY,
  request TEXT NOT NULL,
  run     INTEGER NOT NULL REFERENCES run(id)
) STRICT, WITHOUT ROWID;
";

/// - `timer` holds what is due at a time: the timers of runs, and the time until which a task may wait for a slot.
/// - `outbox` holds what one run tells another, or the engine tells a run because of another: written with the event
///   that caused it, taken in the order of its ids.
/// - `parent` of `run` is the run that started it as a child; that may have been removed since.
const FORMAT_2: &str = "
ALTER TABLE run ADD COLUMN parent INTEGER;
ALTER TABLE run ADD COLUMN parent_task TEXT;
ALTER TABLE run ADD COLUMN parent_close TEXT;
ALTER TABLE run ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
CREATE INDEX run_parent   ON run(parent, parent_task) WHERE parent IS NOT NULL;
CREATE INDEX run_status   ON run(status, id);
CREATE INDEX run_workflow ON run(workflow, id);
CREATE INDEX run_ended    ON run(ended_at_ms, id) WHERE ended_at_ms IS NOT NULL;
CREATE INDEX idempotency_run ON idempotency(run);

CREATE TABLE timer(
  run     INTEGER NOT NULL REFERENCES run(id),
  id      TEXT NOT NULL,
  fire_ms INTEGER NOT NULL,
  PRIMARY KEY (run, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX timer_due ON timer(fire_ms, run, id);

CREATE TABLE outbox(
  id   INTEGER PRIMARY KEY,
  run  INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT;
";

/// `queue` names the lane of a task: its workflow, its priority and its limits. Dispatch takes the first of a lane.
///
/// SQLite builds a table in memory for each list of an `IN`, also in a `CHECK`, at each insert and update. The check of
/// `state` becomes one that needs none, in the way that SQLite's documentation has for changes that touch no row.
const FORMAT_3: &str = "
DROP INDEX task_ready;
CREATE INDEX task_ready ON task(queue, id) WHERE state = 'ready';
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql,
  'CHECK (state IN (''ready'', ''running'', ''delayed'', ''done'', ''failed'', ''canceled''))',
  'CHECK (CASE state WHEN ''ready'' THEN 1 WHEN ''running'' THEN 1 WHEN ''delayed'' THEN 1 WHEN ''done'' THEN 1
                     WHEN ''failed'' THEN 1 WHEN ''canceled'' THEN 1 ELSE 0 END)')
WHERE type = 'table' AND name = 'task';
PRAGMA writable_schema = RESET;
";

/// `blob_use` names the values in the blob store that a run refers to: written with the event that brought the reference,
/// removed with the run.
const FORMAT_4: &str = "
CREATE TABLE blob_use(
  digest TEXT NOT NULL,
  run    INTEGER NOT NULL REFERENCES run(id),
  bytes  INTEGER NOT NULL,
  PRIMARY KEY (digest, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_use_run ON blob_use(run);
";

/// - `pins` holds what runs are bound to beside their definition: the plugins that they may call, each with its digest.
/// - `run_over` takes the place of `run_ended`: how long a run is kept depends on how it ended.
const FORMAT_5: &str = "
CREATE TABLE pins(
  id   INTEGER PRIMARY KEY,
  body TEXT NOT NULL UNIQUE
) STRICT;
ALTER TABLE run ADD COLUMN pins INTEGER REFERENCES pins(id);

DROP INDEX run_ended;
CREATE INDEX run_over ON run(status, ended_at_ms, id) WHERE ended_at_ms IS NOT NULL;
";
