"""`queuekeeper serve`: the agent."""

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click

from actions.store.database import StoreUnavailable
from exporter import systemd
from exporter.agent import VERSION, Agent
from exporter.commands.common_options import Command, config_file_option
from exporter.commands.database_argument import UsageProblem, read_config
from exporter.config.exposure import unguarded
from exporter.config.problems import ConfigErrors
from exporter.config.settings import Config
from exporter.garbage import look_seldom
from exporter.log import Format, configure, event
from exporter.web.address import CannotListen, bind, urls
from exporter.web.app import build
from exporter.web.mount import BadMount, Mount, mount
from exporter.web.server import Server
from exporter.web_config.reload import KeptWebConfig

LOG = logging.getLogger(__name__)

_OPTIONS = (
    click.option(
        "--web.listen-address",
        "addresses",
        multiple=True,
        default=("127.0.0.1:9977",),
        show_default=True,
        help="Where to answer; may be given several times.",
    ),
    click.option(
        "--web.systemd-socket", "from_systemd", is_flag=True, help="Answer on the sockets that systemd opened."
    ),
    click.option(
        "--web.config.file",
        "web_file",
        type=click.Path(path_type=Path),
        help="TLS, passwords and headers, in the exporters' common format (docs/web.md).",
    ),
    click.option(
        "--web.telemetry-path", "telemetry_path", default="/metrics", show_default=True, help="Where the metrics are."
    ),
    click.option(
        "--web.external-url", "external_url", help="How others reach the page, behind a proxy: its name means us."
    ),
    click.option("--web.route-prefix", "prefix", help="Begins every path; by default the path of --web.external-url."),
    click.option(
        "--log.level",
        "level",
        type=click.Choice(("debug", "info", "warn", "error")),
        default="info",
        show_default=True,
        help="What to log.",
    ),
    click.option(
        "--log.format",
        "form",
        type=click.Choice(("logfmt", "json")),
        default="logfmt",
        show_default=True,
        help="How to write it.",
    ),
)


def _options(command: Command) -> Command:
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    return command


@click.command()
@config_file_option
@_options
def serve(
    config_file: Path,
    addresses: tuple[str, ...],
    web_file: Path | None,
    telemetry_path: str,
    external_url: str | None,
    prefix: str | None,
    level: str,
    form: Format,
    *,
    from_systemd: bool,
) -> None:
    """Watch the configured databases, publish metrics, and act where the configuration allows it."""
    config = read_config(config_file)
    configure(level, form)
    try:
        place = mount(telemetry_path, prefix, external_url)
        web = KeptWebConfig(web_file)
        sockets = systemd.sockets(os.environ) if from_systemd else bind(addresses)
    except (BadMount, ConfigErrors) as error:
        raise UsageProblem(str(error)) from error
    except (CannotListen, systemd.NoSockets) as error:
        raise click.ClickException(str(error)) from error
    hosts = tuple(str(one.getsockname()[0]) for one in sockets)
    if (trouble := unguarded(config.acting, hosts)) is not None:
        raise UsageProblem(trouble)
    for warning in (*config.warnings, *_unknown_users(config, web)):
        event(LOG, logging.WARNING, warning)
    _run(config, web, place, sockets)


def _run(config: Config, web: KeptWebConfig, place: Mount, sockets: list[socket.socket]) -> None:
    look_seldom()
    agent = Agent(config, web, place, tuple(str(one.getsockname()[0]) for one in sockets))
    try:
        agent.start()
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from error
    address = " ".join(urls(sockets, "https" if web.current().tls is not None else "http"))
    event(LOG, logging.INFO, "listening", version=VERSION, address=address, acting=config.acting.enabled)
    server = Server(
        build(agent.front),
        web=web.current,
        on_hangup=_in_background(lambda: _reload(agent)),
        on_start=lambda: systemd.notify("READY=1", f"STATUS=answering on {address}"),
        on_stop=lambda: _begin_to_stop(agent),
        behind_proxy=bool(place.own_hosts),
    )
    _tell_watchdog(server)
    try:
        server.run(sockets)
    finally:
        agent.stop()
    event(LOG, logging.INFO, "stopped")
    sys.exit(0)


def _reload(agent: Agent) -> None:
    systemd.reloading()
    agent.reload()
    systemd.notify("READY=1")


def _begin_to_stop(agent: Agent) -> None:
    systemd.notify("STOPPING=1")
    agent.begin_to_stop()


def _tell_watchdog(server: Server) -> None:
    """From the loop that answers: when it hangs, systemd hears nothing and starts us again."""
    interval = systemd.watchdog_interval(os.environ)
    if interval is not None:
        server.every(interval, lambda: systemd.notify("WATCHDOG=1"))


def _unknown_users(config: Config, web: KeptWebConfig) -> tuple[str, ...]:
    strange = sorted(config.acting.users - web.current().users.keys())
    where = "basic_auth_users of --web.config.file"
    return tuple(f"actions.allow.users: {name} is not in {where}, so nobody can act as that" for name in strange)


def _in_background(reload: Callable[[], object]) -> Callable[[], None]:
    """Files are read and folders listed: not in the loop that answers scrapes."""
    return lambda: threading.Thread(target=reload, name="reload", daemon=True).start()
