"""Rows of one database about its files: pages and disks, and the write-ahead log with who holds it."""

from grafana.meanings import GREEN, ORANGE
from grafana.overview import FREE_SHARE, wal_panels
from grafana.panels import (
    OF_DATABASE,
    WATCHED,
    Panel,
    column_style,
    instant_query,
    line_panel,
    range_query,
    red_above,
    red_below,
    table_panel,
    threshold_steps,
    value_mapping,
)

RULED_OUT = value_mapping({"ruled out": (0, GREEN), "not ruled out": (1, ORANGE)})


def storage_panels() -> list[Panel]:
    """Files, pages and disks."""
    return [
        line_panel(
            "File sizes",
            "Size of the database and of its write-ahead log. The log's size is a high-water mark, not a backlog: SQLite "
            "reuses the file. Good: both level.",
            range_query(f"sqlite_database_size_bytes{{{WATCHED}}}", OF_DATABASE),
            range_query(f"sqlite_wal_size_bytes{{{WATCHED}}}", OF_DATABASE + ", WAL"),
            unit="bytes",
            alert="QueueWalResetStarvedNotRemediated",
            width=6,
        ),
        line_panel(
            "Pages",
            "What the pages of the file hold: used, free (a vacuum gives them back), and room inside used pages where it was "
            "measured. Good: free small compared with used, or soon used again.",
            range_query(
                f"(sqlite_pages{{{WATCHED}}} - sqlite_free_pages{{{WATCHED}}}) * sqlite_page_size_bytes{{{WATCHED}}}",
                "used: " + OF_DATABASE,
            ),
            range_query(
                f"sqlite_free_pages{{{WATCHED}}} * sqlite_page_size_bytes{{{WATCHED}}}", "free: " + OF_DATABASE
            ),
            range_query(f"sqlite_unused_bytes{{{WATCHED}}}", "inside used pages: " + OF_DATABASE),
            unit="bytes",
            alert="QueueFreePagesNotRemediated",
            width=6,
        ),
        line_panel(
            "Free and scattered pages",
            "Share of pages that are empty, and of pages that do not follow the page before them. Good: level. A high free "
            "share after a purge is room that a vacuum would give back; the order matters on spinning disks only.",
            range_query(f"sqlite_fragmentation_ratio{{{WATCHED}}}", "free: " + OF_DATABASE),
            range_query(f"sqlite_out_of_order_pages_ratio{{{WATCHED}}}", "out of order: " + OF_DATABASE),
            unit="percentunit",
            thresholds=red_above("free_ratio", ORANGE),
            most=1,
            alert="QueueFreePages",
            width=6,
        ),
        line_panel(
            "Free disk space",
            "Free share of the disks that hold the database, its backups, temporary files and our state. Good: above the line.",
            range_query(FREE_SHARE, "{{role}}: " + OF_DATABASE),
            unit="percentunit",
            thresholds=red_below("disk_low"),
            most=1,
            alert="QueueDiskFullSoon",
            width=6,
        ),
        table_panel(
            "What it is",
            "Facts about the file, and whether its application is exposed to the WAL-reset bug. Good: the profile is the right "
            "one, the bug is ruled out (owner_sqlite in the configuration).",
            {
                "": instant_query(
                    "max by (database, instance, path, journal_mode, auto_vacuum, profile, lease_kind, "
                    f"owner_sqlite_version) (sqlite_info{{{WATCHED}}})"
                ),
                "WAL-reset bug": instant_query(
                    f"max by (database, instance) (sqlite_owner_wal_reset_vulnerable{{{WATCHED}}})"
                ),
            },
            by=(
                "database", "instance", "path", "journal_mode", "auto_vacuum", "profile", "lease_kind",
                "owner_sqlite_version",
            ),
            overrides={"WAL-reset bug": column_style(thresholds=threshold_steps((None, GREEN), (1, ORANGE)), words=RULED_OUT)},
            height=4,
            alert="QueueOwnerVulnerable",
        ),
    ]  # fmt: skip


def wal_detail_panels() -> list[Panel]:
    """The write-ahead log, and who holds it."""
    return [
        *wal_panels(),
        line_panel(
            "WAL held back, by program",
            "For how long a program's open read has held the write-ahead log back. Good: no data, or seconds.",
            range_query(f"sqlite_wal_pinned_seconds{{{WATCHED}}}", "{{command}}: " + OF_DATABASE),
            unit="s",
            thresholds=red_above("pinned"),
            alert="QueueWalPinned",
        ),
        line_panel(
            "Frames",
            "Live frames in the log, and how many of them are copied back. Good: the two meet again and again, and both fall "
            "to 0 now and then.",
            range_query(f"sqlite_wal_frames{{{WATCHED}}}", "live: " + OF_DATABASE),
            range_query(f"sqlite_wal_checkpointed_frames{{{WATCHED}}}", "copied: " + OF_DATABASE),
            unit="short",
            alert="QueueWalBacklog",
        ),
        line_panel(
            "Write lock busy",
            "Share of the time in which a process held the write lock; SQLite has one writer at a time. Good: below a half; "
            'near 1 every other writer gets "database is locked".',
            range_query(f"sqlite_write_lock_busy_ratio{{{WATCHED}}}", OF_DATABASE),
            unit="percentunit",
            most=1,
        ),
    ]
