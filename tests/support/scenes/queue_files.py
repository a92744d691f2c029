"""Files of the queue systems that we know, in their documented schema, made with apsw; the real libraries' own schema where
we test with the library. `SCHEMAS` by profile name."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from tests.support.scenes import prismq

_EXECUTION = "id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, job_id bigint NOT NULL"
_QUEUED = "queue_name varchar NOT NULL, priority integer DEFAULT 0 NOT NULL"


def solid_queue(prefix: str = "solid_queue_") -> str:
    """Solid Queue's queue_schema.rb as Rails writes it for SQLite; Firm Queue has another prefix."""
    p = prefix
    cascade = f"FOREIGN KEY (job_id) REFERENCES {p}jobs (id) ON DELETE CASCADE"
    return f"""
CREATE TABLE {p}jobs (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, {_QUEUED}, class_name varchar NOT NULL, arguments text,
  active_job_id varchar, scheduled_at datetime(6), finished_at datetime(6), concurrency_key varchar,
  created_at datetime(6) NOT NULL, updated_at datetime(6) NOT NULL);
CREATE INDEX {p}jobs_f ON {p}jobs (finished_at);
CREATE INDEX {p}jobs_for_filtering ON {p}jobs (queue_name, finished_at);
CREATE TABLE {p}ready_executions ({_EXECUTION}, {_QUEUED}, created_at datetime(6) NOT NULL, {cascade});
CREATE UNIQUE INDEX {p}ready_on_job ON {p}ready_executions (job_id);
CREATE INDEX {p}poll_all ON {p}ready_executions (priority, job_id);
CREATE INDEX {p}poll_by_queue ON {p}ready_executions (queue_name, priority, job_id);
CREATE TABLE {p}scheduled_executions ({_EXECUTION}, {_QUEUED}, scheduled_at datetime(6) NOT NULL,
  created_at datetime(6) NOT NULL, {cascade});
CREATE TABLE {p}blocked_executions ({_EXECUTION}, {_QUEUED}, concurrency_key varchar NOT NULL,
  expires_at datetime(6) NOT NULL, created_at datetime(6) NOT NULL, {cascade});
CREATE TABLE {p}claimed_executions ({_EXECUTION}, process_id bigint, created_at datetime(6) NOT NULL, {cascade});
CREATE UNIQUE INDEX {p}claimed_on_job ON {p}claimed_executions (job_id);
CREATE TABLE {p}failed_executions ({_EXECUTION}, error text, created_at datetime(6) NOT NULL, {cascade});
CREATE TABLE {p}recurring_executions ({_EXECUTION}, task_key varchar NOT NULL, run_at datetime(6) NOT NULL,
  created_at datetime(6) NOT NULL, {cascade});
CREATE TABLE {p}pauses (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, queue_name varchar NOT NULL, created_at datetime(6));
CREATE TABLE {p}processes (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, kind varchar NOT NULL,
  last_heartbeat_at datetime(6) NOT NULL, supervisor_id bigint, pid integer NOT NULL, hostname varchar, metadata text,
  created_at datetime(6) NOT NULL, name varchar NOT NULL);
CREATE TABLE {p}semaphores (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "key" varchar NOT NULL, value integer DEFAULT 1,
  expires_at datetime(6) NOT NULL, created_at datetime(6) NOT NULL, updated_at datetime(6) NOT NULL);
"""


LARAVEL = """
CREATE TABLE "jobs" ("id" integer primary key autoincrement not null, "queue" varchar not null, "payload" text not null,
  "attempts" integer not null, "reserved_at" integer, "available_at" integer not null, "created_at" integer not null);
CREATE INDEX "jobs_queue_index" on "jobs" ("queue");
CREATE TABLE "job_batches" ("id" varchar not null, "name" varchar not null, "pending_jobs" integer not null,
  primary key ("id"));
CREATE TABLE "failed_jobs" ("id" integer primary key autoincrement not null, "uuid" varchar not null,
  "connection" text not null, "queue" text not null, "payload" text not null, "exception" text not null,
  "failed_at" datetime not null default CURRENT_TIMESTAMP);
"""
HUEY = """
CREATE TABLE kv (queue text not null, key text not null, value blob not null, primary key(queue, key));
CREATE TABLE schedule (id integer not null primary key, queue text not null, data blob not null, timestamp real not null);
CREATE INDEX schedule_queue_timestamp on schedule (queue, timestamp);
CREATE TABLE task (id integer not null primary key, queue text not null, data blob not null,
  priority real not null default 0.0);
CREATE INDEX task_queue_priority_id on task (queue, priority desc, id);
"""
PERSIST = "CREATE TABLE queue_jobs (_id INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB, timestamp FLOAT);"
PERSIST_ACK = (
    "CREATE TABLE ack_queue_acks (_id INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB, timestamp FLOAT, status INTEGER);"
)
LITEQUE = """
CREATE TABLE tasks (id integer PRIMARY KEY AUTOINCREMENT NOT NULL, queue text NOT NULL, payload text NOT NULL,
  createdAt integer NOT NULL, status text DEFAULT 'pending' NOT NULL, expireAt integer, allocationId text NOT NULL,
  numRunsLeft integer NOT NULL, maxNumRuns integer NOT NULL, availableAt integer, priority integer DEFAULT 0 NOT NULL,
  idempotencyKey text);
CREATE INDEX tasks_status_idx ON tasks (status);
CREATE UNIQUE INDEX tasks_queue_idempotencyKey_unique ON tasks (queue, idempotencyKey);
"""
SCHEMAS = {
    "prismq": prismq.SCHEMA,
    "solid-queue": solid_queue(),
    "laravel-database": LARAVEL,
    "huey": HUEY,
    "persist-queue": PERSIST,
    "persist-queue-ack": PERSIST_ACK,
    "liteque": LITEQUE,
}


@contextmanager
def owned(path: Path, *schemas: str, journal_mode: str = "wal") -> Iterator[apsw.Connection]:
    """A database with these schemas and its application connected."""
    owner = apsw.Connection(str(path))
    try:
        owner.pragma("journal_mode", journal_mode)
        owner.pragma("synchronous", "off")
        run(owner, "".join(schemas))
        yield owner
    finally:
        owner.close()


def run(connection: apsw.Connection, script: str, *values: Any) -> None:
    """A script of several statements."""
    for _ in connection.execute(script, *values):
        pass


def add(owner: apsw.Connection, table: str, number: int = 1, /, **columns: Any) -> None:
    """Insert `number` equal rows."""
    names, marks = ", ".join(f'"{name}"' for name in columns), ", ".join(f":{name}" for name in columns)
    for _ in range(number):
        owner.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', columns)


def micro(moment: float) -> str:
    """A moment as Rails and Django write it: UTC text with microseconds."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(moment))}.{round(moment % 1 * 1e6) % 1_000_000:06d}"
