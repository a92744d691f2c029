"""One definition of the 20 samples per database, shared by every exporter under test."""

# metric name -> help; each is one unlabelled sample per database
SINGLE = {
    "q_page_count": "pages in the file",
    "q_page_size": "bytes per page",
    "q_freelist_pages": "free pages",
    "q_db_bytes": "page_count*page_size",
    "q_schema_version": "schema cookie",
    "q_stale_leases": "expired leases still processing",
    "q_oldest_queued_seconds": "age of the oldest queued task",
    "q_ready": "queued and due",
    "q_scheduled": "queued for later",
    "q_workers": "registered workers",
    "q_workers_stale": "workers without recent heartbeat",
    "q_exhausted": "tasks at max attempts",
    "q_oldest_processing_seconds": "age of the oldest running task",
    "q_last_log_id": "log high-water mark",
}
STATUS_METRIC = "q_tasks"  # 6 samples, one per status
STATUSES = ("queued", "processing", "completed", "failed", "dead_letter", "cancelled")

AGE = "CAST(COALESCE((julianday('now')-julianday(MIN({c})))*86400,0) AS REAL)"
SINGLE_SQL = (
    "SELECT (SELECT page_count FROM pragma_page_count) AS q_page_count,"
    "(SELECT page_size FROM pragma_page_size) AS q_page_size,"
    "(SELECT freelist_count FROM pragma_freelist_count) AS q_freelist_pages,"
    "(SELECT page_count FROM pragma_page_count)*(SELECT page_size FROM pragma_page_size) AS q_db_bytes,"
    "(SELECT schema_version FROM pragma_schema_version) AS q_schema_version,"
    "(SELECT COUNT(*) FROM task_queue WHERE status='processing' AND lease_until_utc IS NOT NULL"
    " AND lease_until_utc<datetime('now')) AS q_stale_leases,"
    "(SELECT " + AGE.format(c="created_at_utc") + " FROM task_queue WHERE status='queued') AS q_oldest_queued_seconds,"
    "(SELECT COUNT(*) FROM task_queue WHERE status='queued' AND run_after_utc<=datetime('now')) AS q_ready,"
    "(SELECT COUNT(*) FROM task_queue WHERE status='queued' AND run_after_utc>datetime('now')) AS q_scheduled,"
    "(SELECT COUNT(*) FROM workers) AS q_workers,"
    "(SELECT COUNT(*) FROM workers WHERE heartbeat_utc<datetime('now','-120 seconds')) AS q_workers_stale,"
    "(SELECT COUNT(*) FROM task_queue WHERE status IN ('queued','processing') AND attempts>=max_attempts) AS q_exhausted,"
    "(SELECT "
    + AGE.format(c="processing_started_utc")
    + " FROM task_queue WHERE status='processing') AS q_oldest_processing_seconds,"
    "(SELECT COALESCE(MAX(log_id),0) FROM task_logs) AS q_last_log_id"
)
STATUS_SQL = (
    "SELECT s.v AS status, (SELECT COUNT(*) FROM task_queue t WHERE t.status=s.v) AS q_tasks FROM ("
    + " UNION ALL ".join(f"SELECT '{s}'" + (" AS v" if i == 0 else "") for i, s in enumerate(STATUSES))
    + ") s"
)
SAMPLES_PER_DB = len(SINGLE) + len(STATUSES)
