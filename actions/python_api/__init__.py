"""The public Python API, also under this name; new code imports `queuekeeper`, whose child process is `child`."""

from queuekeeper import (
    BackupInfo,
    CheckpointResult,
    DatabaseStats,
    OptimizeResult,
    QueueBackup,
    QueueBackupError,
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
