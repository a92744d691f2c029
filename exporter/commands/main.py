"""`queuekeeper`: the command line. A command's module is imported when it is used: most need neither HTTP nor the agent."""

import click

from exporter.commands.lazy_commands import LazyCommands
from exporter.commands.terminal import OneLineErrorGroup

# The file of each hand-made command, beside this one. The other actions have commands that are built from their specs.
FILES = {
    "backup": "backup",
    "backups": "backups",
    "cancel": "pause",
    "checkpoint": "checkpoint",
    "config": "config",
    "demo": "demo",
    "hash-password": "hash_password",
    "history": "history",
    "leases": "leases",
    "pause": "pause",
    "profiles": "profiles",
    "readers": "readers",
    "restore": "restore",
    "resume": "pause",
    "rules": "rules",
    "serve": "serve",
    "simulate": "simulate",
    "stats": "stats",
    "status": "status",
}


@click.group(
    cls=OneLineErrorGroup, commands=LazyCommands(FILES), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="queuekeeper", prog_name="queuekeeper")
def main() -> None:
    """Watch task queues kept in SQLite files, and keep them healthy."""
