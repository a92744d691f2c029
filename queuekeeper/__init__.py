"""Maintenance and backups of a task queue in a SQLite file, from Python.

    from queuekeeper import QueueMaintenance
    QueueMaintenance("/var/lib/app/queue.db").checkpoint("TRUNCATE")

Importing this package loads only the standard library. Each call does its work in a child process (docs/python.md).
"""

from queuekeeper.backup import BackupInfo, QueueBackup, QueueBackupError
from queuekeeper.maintenance import (
    CheckpointResult,
    DatabaseStats,
    OptimizeResult,
    QueueMaintenance,
    QueueMaintenanceError,
)

__all__ = [
    "BackupInfo",
    "CheckpointResult",
    "DatabaseStats",
    "OptimizeResult",
    "QueueBackup",
    "QueueBackupError",
    "QueueMaintenance",
    "QueueMaintenanceError",
]
