"""Rows of one database about its files: pages and disks, and the write-ahead log with who holds it."""

from grafana.meanings import GREEN, ORANGE
from grafana.overview import FREE_SHARE, wal
from grafana.panels import (
    OF_DATABASE,
    WATCHED,
    Panel,
    bad_above,
    bad_below,
    column,
    lines,
    mapping,
    now,
    rows_of,
    steps,
    target,
)

RULED_OUT = mapping({"ruled out": (0, GREEN), "not ruled out": (1, ORANGE)})


def storage() -> list[Panel]:
    """Files, pages and disks."""
    return [
        lines(
            "File sizes",
            "Size of the database and of its write-ahead log. The log's size is a high-water mark, not a backlog: SQLite "
            "reuses the file. Good: both level.",
            target(f"sqlite_database_size_bytes{{{WATCHED}}}", OF_DATABASE),
            target(f"sqlite_wal_size_bytes{{{WATCHED}}}", OF_DATABASE + ", WAL"),
            unit="bytes",
            alert="QueueWalResetStarvedNotRemediated",
            width=6,
        ),
        lines(
            "Pages",
            "What the pages of the file hold: used, free (a vacuum gives them back), and room inside used pages where it was "
            "measured. Good: free small beside used, or soon used again.",
            target(
                f"(sqlite_pages{{{WATCHED}}} - sqlite_free_pages{{{WATCHED}}}) * sqlite_page_size_bytes{{{WATCHED}}}",
                "used: " + OF_DATABASE,
            ),
            target(
                f"sqlite_free_pages{{{WATCHED}}} * sqlite_page_size_bytes{{{WATCHED}}}", "free: " + OF_DATABASE
            ),
            target(f"sqlite_unused_bytes{{{WATCHED}}}", "inside used pages: " + OF_DATABASE),
            unit="bytes",
            alert="QueueFreePagesNotRemediated",
            width=6,
        ),
        lines(
            "Free and scattered pages",
            "Share of pages that are empty, and of pages that do not follow the page before them. Good: level. A high free "
            "share after a purge is room that a vacuum would give back; the order matters on spinning disks only.",
            target(f"sqlite_fragmentation_ratio{{{WATCHED}}}", "free: " + OF_DATABASE),
            target(f"sqlite_out_of_order_pages_ratio{{{WATCHED}}}", "out of order: " + OF_DATABASE),
            unit="percentunit",
            thresholds=bad_above("free_ratio", ORANGE),
            most=1,
            alert="QueueFreePages",
            width=6,
        ),
        lines(
            "Free disk space",
            "Free share of the disks that hold the database, its backups, temporary files and our state. Good: above the line.",
            target(FREE_SHARE, "{{role}}: " + OF_DATABASE),
            unit="percentunit",
            thresholds=bad_below("disk_low"),
            most=1,
            alert="QueueDiskFullSoon",
            width=6,
        ),
        rows_of(
            "What it is",
            "Facts about the file, and whether its application is exposed to the WAL-reset bug. Good: the profile is the right "
            "one, the bug is ruled out (owner_sqlite in the configuration).",
            {
                "": now(
                    "max by (database, instance, path, journal_mode, auto_vacuum, profile, lease_kind, "
                    f"owner_sqlite_version) (sqlite_info{{{WATCHED}}})"
                ),
                "WAL-reset bug": now(
                    f"max by (database, instance) (sqlite_owner_wal_reset_vulnerable{{{WATCHED}}})"
                ),
            },
            by=(
                "database", "instance", "path", "journal_mode", "auto_vacuum", "profile", "lease_kind",
                "owner_sqlite_version",
            ),
            overrides={"WAL-reset bug": column(thresholds=steps((None, GREEN), (1, ORANGE)), words=RULED_OUT)},
            height=4,
            alert="QueueOwnerVulnerable",
        ),
    ]  # fmt: skip


def log() -> list[Panel]:
    """The write-ahead log, and who holds it."""
    return [
        *wal(),
        lines(
            "WAL held back, by program",
            "For how long a program's open read has held the write-ahead log back. Good: no data, or seconds.",
            target(f"sqlite_wal_pinned_seconds{{{WATCHED}}}", "{{command}}: " + OF_DATABASE),
            unit="s",
            thresholds=bad_above("pinned"),
            alert="QueueWalPinned",
        ),
        lines(
            "Frames",
            "Live frames in the log, and how many of them are copied back. Good: the two meet again and again, and both fall "
            "to 0 now and then.",
            target(f"sqlite_wal_frames{{{WATCHED}}}", "live: " + OF_DATABASE),
            target(f"sqlite_wal_checkpointed_frames{{{WATCHED}}}", "copied: " + OF_DATABASE),
            unit="short",
            alert="QueueWalBacklog",
        ),
        lines(
            "Write lock busy",
            "Share of the time in which somebody held the write lock; SQLite has one writer at a time. Good: below a half; "
            'near 1 everybody else gets "database is locked".',
            target(f"sqlite_write_lock_busy_ratio{{{WATCHED}}}", OF_DATABASE),
            unit="percentunit",
            most=1,
        ),
    ]
