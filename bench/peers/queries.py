"""One definition of 20 samples for each database, shared by every peer: what a user would ask of a queue by SQL."""

SINGLE = {
    "q_page_count": "pages in the file",
    "q_page_size": "bytes per page",
    "q_freelist_pages": "free pages",
    "q_db_bytes": "page_count * page_size",
    "q_schema_version": "schema cookie",
    "q_stale_leases": "expired leases still running",
    "q_oldest_queued_seconds": "age of the oldest queued task",
    "q_ready": "queued and due",
    "q_scheduled": "queued for later",
    "q_workers": "registered workers",
    "q_workers_stale": "workers without recent heartbeat",
    "q_exhausted": "tasks at max attempts",
    "q_oldest_processing_seconds": "age of the oldest running task",
    "q_last_log_id": "log high-water mark",
}
STATUS_METRIC = "q_tasks"
STATUSES = ("queued", "leased", "completed", "failed", "dead_letter", "cancelled")

_AGE = "CAST(COALESCE((julianday('now') - julianday(MIN({column}))) * 86400, 0) AS REAL)"
SINGLE_SQL = f"""
SELECT (SELECT page_count FROM pragma_page_count) AS q_page_count,
 (SELECT page_size FROM pragma_page_size) AS q_page_size,
 (SELECT freelist_count FROM pragma_freelist_count) AS q_freelist_pages,
 (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size) AS q_db_bytes,
 (SELECT schema_version FROM pragma_schema_version) AS q_schema_version,
 (SELECT COUNT(*) FROM task_queue WHERE status = 'leased' AND lease_until_utc < datetime('now')) AS q_stale_leases,
 (SELECT {_AGE.format(column="created_at_utc")} FROM task_queue WHERE status = 'queued') AS q_oldest_queued_seconds,
 (SELECT COUNT(*) FROM task_queue WHERE status = 'queued' AND run_after_utc <= datetime('now')) AS q_ready,
 (SELECT COUNT(*) FROM task_queue WHERE status = 'queued' AND run_after_utc > datetime('now')) AS q_scheduled,
 (SELECT COUNT(*) FROM workers) AS q_workers,
 (SELECT COUNT(*) FROM workers WHERE heartbeat_utc < datetime('now', '-120 seconds')) AS q_workers_stale,
 (SELECT COUNT(*) FROM task_queue WHERE status IN ('queued', 'leased') AND attempts >= max_attempts) AS q_exhausted,
 (SELECT {_AGE.format(column="processing_started_utc")} FROM task_queue WHERE status = 'leased')
   AS q_oldest_processing_seconds,
 (SELECT COALESCE(MAX(log_id), 0) FROM task_logs) AS q_last_log_id
""".strip()
STATUS_SQL = (
    "SELECT s.v AS status, (SELECT COUNT(*) FROM task_queue t WHERE t.status = s.v) AS q_tasks FROM ({}) s".format(
        " UNION ALL ".join(f"SELECT '{status}' AS v" for status in STATUSES)
    )
)
