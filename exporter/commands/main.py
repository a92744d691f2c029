"""`queuekeeper`: the command line."""

import click

from exporter.agent import VERSION
from exporter.commands.analyze import analyze, optimize
from exporter.commands.backup import backup
from exporter.commands.backups import backups
from exporter.commands.checkpoint import checkpoint
from exporter.commands.config import config
from exporter.commands.demo import demo
from exporter.commands.hash_password import hash_password
from exporter.commands.history import history
from exporter.commands.integrity import integrity
from exporter.commands.leases import leases
from exporter.commands.one_line import OneLine
from exporter.commands.pause import cancel, pause, resume
from exporter.commands.profiles import profiles
from exporter.commands.purge import purge
from exporter.commands.readers import readers
from exporter.commands.requeue import requeue
from exporter.commands.restore import restore
from exporter.commands.rules import rules
from exporter.commands.serve import serve
from exporter.commands.simulate import simulate
from exporter.commands.stats import stats
from exporter.commands.status import status
from exporter.commands.vacuum import vacuum

COMMANDS = (
    serve, demo, status, stats, readers, checkpoint, backup, backups, restore, vacuum, analyze, optimize, integrity,
    leases, requeue, purge, history, pause, resume, cancel, config, profiles, rules, simulate, hash_password,
)  # fmt: skip


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="queuekeeper")
def main() -> None:
    """Watch task queues kept in SQLite files, and keep them healthy."""


for _command in COMMANDS:
    main.add_command(_command)
