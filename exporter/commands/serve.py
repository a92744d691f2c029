"""`queuekeeper serve`: the agent."""

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click

from actions.history.store import StoreUnavailable
from exporter.agent import VERSION, Agent
from exporter.commands.database import read_config
from exporter.commands.door_options import config_file_option
from exporter.garbage import look_seldom
from exporter.log import Format, configure, event
from exporter.web.app import build
from exporter.web.server import CannotListen, Server, bind, urls

LOG = logging.getLogger(__name__)


@click.command()
@config_file_option
@click.option(
    "--web.listen-address",
    "addresses",
    multiple=True,
    default=("127.0.0.1:9977",),
    show_default=True,
    help="Where to answer; may be given several times.",
)
@click.option(
    "--web.telemetry-path", "telemetry_path", default="/metrics", show_default=True, help="Where the metrics are."
)
@click.option(
    "--log.level",
    "level",
    type=click.Choice(("debug", "info", "warn", "error")),
    default="info",
    show_default=True,
    help="What to log.",
)
@click.option(
    "--log.format",
    "form",
    type=click.Choice(("logfmt", "json")),
    default="logfmt",
    show_default=True,
    help="How to write it.",
)
def serve(config_file: Path, addresses: tuple[str, ...], telemetry_path: str, level: str, form: Format) -> None:
    """Watch the configured databases, publish metrics, and act where the configuration allows it."""
    config = read_config(config_file)
    configure(level, form)
    try:
        sockets = bind(addresses)
    except CannotListen as error:
        raise click.ClickException(str(error)) from error
    for warning in config.warnings:
        event(LOG, logging.WARNING, warning)
    look_seldom()
    agent = Agent(config, telemetry_path)
    try:
        agent.start()
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from error
    event(
        LOG, logging.INFO, "listening", version=VERSION, address=" ".join(urls(sockets)), acting=config.acting.enabled
    )
    try:
        Server(build(agent.front), on_hangup=_in_background(agent.reload), on_stop=agent.begin_to_stop).run(sockets)
    finally:
        agent.stop()
    event(LOG, logging.INFO, "stopped")
    sys.exit(0)


def _in_background(reload: Callable[[], object]) -> Callable[[], None]:
    """Files are read and folders listed: not in the loop that answers scrapes."""
    return lambda: threading.Thread(target=reload, name="reload", daemon=True).start()
