-- Our own file, never the application's. A new version adds tables: the whole script is run again on an older file. Times are seconds since the epoch, UTC. JSON columns hold the dataclasses of actions/model.
CREATE TABLE IF NOT EXISTS run (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  database     TEXT NOT NULL,
  path         TEXT NOT NULL,
  action       TEXT NOT NULL,
  request      TEXT NOT NULL,
  trigger      TEXT NOT NULL,
  rule         TEXT NOT NULL DEFAULT '',
  episode      TEXT NOT NULL DEFAULT '',
  priority     INTEGER NOT NULL DEFAULT 0,
  state        TEXT NOT NULL CHECK (state IN ('pending', 'claimed', 'running', 'ended')),
  token        TEXT NOT NULL DEFAULT '',
  claimer      TEXT NOT NULL DEFAULT '',
  child        TEXT NOT NULL DEFAULT '',
  requested_at REAL NOT NULL,
  claimed_at   REAL,
  started_at   REAL,
  ended_at     REAL,
  plan         TEXT,
  before       REAL,
  after        REAL,
  outcome      TEXT,
  reason       TEXT NOT NULL DEFAULT '',
  message      TEXT NOT NULL DEFAULT '',
  next_step    TEXT NOT NULL DEFAULT '',
  figures      TEXT NOT NULL DEFAULT '{}',
  effect       TEXT
);
-- An action is pending on a database at most once, whichever trigger requested it.
CREATE UNIQUE INDEX IF NOT EXISTS run_pending_once ON run (database, action) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS run_unfinished ON run (state) WHERE state <> 'ended';
CREATE INDEX IF NOT EXISTS run_ended ON run (database, action, ended_at);
CREATE INDEX IF NOT EXISTS run_claimed ON run (claimed_at) WHERE claimed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS run_drill ON run (database, id) WHERE action = 'drill' AND outcome = 'done';

CREATE TABLE IF NOT EXISTS run_total (
  database TEXT NOT NULL, action TEXT NOT NULL, outcome TEXT NOT NULL,
  runs INTEGER NOT NULL, last_at REAL NOT NULL,
  PRIMARY KEY (database, action, outcome)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trigger_total (
  action TEXT NOT NULL, trigger TEXT NOT NULL, runs INTEGER NOT NULL,
  PRIMARY KEY (action, trigger)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS duration_total (
  action TEXT NOT NULL, bucket INTEGER NOT NULL, runs INTEGER NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (action, bucket)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS effect_total (
  database TEXT NOT NULL, rule TEXT NOT NULL, effect TEXT NOT NULL, runs INTEGER NOT NULL,
  PRIMARY KEY (database, rule, effect)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS amount_total (
  database TEXT NOT NULL, name TEXT NOT NULL, amount REAL NOT NULL,
  PRIMARY KEY (database, name)
) WITHOUT ROWID;

-- One row for each alert that fired here: our own episode, since neither startsAt nor the delivery identifies it.
CREATE TABLE IF NOT EXISTS alert_episode (
  receiver TEXT NOT NULL, fingerprint TEXT NOT NULL, rule TEXT NOT NULL, database TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('firing', 'resolved')),
  number INTEGER NOT NULL, began_at REAL NOT NULL, seen_at REAL NOT NULL, deliveries INTEGER NOT NULL,
  run_id INTEGER, tries INTEGER NOT NULL,
  PRIMARY KEY (receiver, fingerprint, rule, database)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS episode_run ON alert_episode (run_id) WHERE state = 'firing';

-- The suspension state of an action on a database after runs that did not help; `value` is JSON of actions/policy/suspension.py.
CREATE TABLE IF NOT EXISTS standing (
  database TEXT NOT NULL, action TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (database, action)
) WITHOUT ROWID;

-- Cron times up to `done_until` are handled; `missed` are those that were not run.
CREATE TABLE IF NOT EXISTS schedule (
  name TEXT NOT NULL, database TEXT NOT NULL, done_until REAL NOT NULL, missed INTEGER NOT NULL,
  PRIMARY KEY (name, database)
) WITHOUT ROWID;

-- Since when a slow condition holds; `condition` says which one, since the rule may have been changed since.
CREATE TABLE IF NOT EXISTS watch (
  rule TEXT NOT NULL, database TEXT NOT NULL, condition TEXT NOT NULL, wrong_since REAL NOT NULL,
  PRIMARY KEY (rule, database)
) WITHOUT ROWID;

-- The fewest free pages of each hour (hours since the epoch): what is used again soon is not worth giving back.
CREATE TABLE IF NOT EXISTS free_low (
  database TEXT NOT NULL, hour INTEGER NOT NULL, pages INTEGER NOT NULL,
  PRIMARY KEY (database, hour)
) WITHOUT ROWID;
-- What the newest integrity check of each kind and target said; ok = 0 stays until a full check clears it.
CREATE TABLE IF NOT EXISTS integrity (
  database TEXT NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL,
  ok INTEGER NOT NULL, message TEXT NOT NULL, checked_at REAL NOT NULL,
  PRIMARY KEY (database, kind, target)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- What each database held (JSON), against which later readings are held; what is older than `accepted_at` no longer counts.
CREATE TABLE IF NOT EXISTS content_seen (
  database TEXT PRIMARY KEY, memory TEXT NOT NULL, accepted_at REAL NOT NULL
) WITHOUT ROWID;
-- Append-only: each entry holds the digest of a run (or, without run_id, a pause or its end) and the hash before it: actions/store/chain.py.
CREATE TABLE IF NOT EXISTS chain (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, event TEXT NOT NULL, run_id INTEGER,
  who TEXT NOT NULL, detail TEXT NOT NULL, content TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS chain_run ON chain (run_id, sequence) WHERE run_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS chain_control ON chain (sequence) WHERE run_id IS NULL;
