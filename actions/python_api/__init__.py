"""The original queue utilities' names over the door: see queue_backup and queue_maintenance."""

from actions.python_api.queue_backup import BackupInfo, QueueBackup, QueueBackupError
from actions.python_api.queue_maintenance import (
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
