"""`queuekeeper`: the command line. A command's module is imported when it is used: most need neither HTTP nor the agent."""

from collections import UserDict
from importlib import import_module
from typing import Any

import click

from exporter.commands.terminal import OneLineErrorGroup

# The file of each command, beside this one; in it, the command bears its own name.
FILES = {
    "analyze": "analyze",
    "backup": "backup",
    "backups": "backups",
    "cancel": "pause",
    "checkpoint": "checkpoint",
    "config": "config",
    "demo": "demo",
    "hash-password": "hash_password",
    "history": "history",
    "integrity": "integrity",
    "leases": "leases",
    "optimize": "analyze",
    "pause": "pause",
    "profiles": "profiles",
    "purge": "purge",
    "readers": "readers",
    "requeue": "requeue",
    "restore": "restore",
    "resume": "pause",
    "rules": "rules",
    "serve": "serve",
    "simulate": "simulate",
    "stats": "stats",
    "status": "status",
    "vacuum": "vacuum",
}


class _LazyCommands(UserDict[str, Any]):
    """Commands by name, as click's groups keep them; each is found when it is looked up."""

    def __getitem__(self, name: str) -> click.Command:
        command = self.data[name]
        if isinstance(command, str):
            module = import_module(f"exporter.commands.{command}")
            self.data[name] = command = getattr(module, name.replace("-", "_"))
        found: click.Command = command
        return found


@click.group(
    cls=OneLineErrorGroup, commands=_LazyCommands(FILES), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="queuekeeper", prog_name="queuekeeper")
def main() -> None:
    """Watch task queues kept in SQLite files, and keep them healthy."""
