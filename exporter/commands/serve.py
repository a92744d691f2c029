"""`queuekeeper serve`: runs the agent."""

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
from exporter.agent import VERSION, Agent, relax_garbage_collection
from exporter.commands.common_options import Command, config_file_option
from exporter.commands.database_argument import UsageProblem, read_config
from exporter.config.exposure import exposure_problem
from exporter.config.problems import ConfigErrors
from exporter.config.settings import Config
from exporter.log import LogFormat, configure_logging, log_event
from exporter.web.address import CannotListen, InvalidMount, Mount, bind_listen_addresses, listening_urls, parse_mount
from exporter.web.app import build_web_app
from exporter.web.server import HttpServer
from exporter.web_config.reload import ReloadingWebConfig

LOG = logging.getLogger(__name__)

_OPTIONS = (
    click.option(
        "--web.listen-address",
        "addresses",
        multiple=True,
        default=("127.0.0.1:9977",),
        show_default=True,
        help="The address to listen on; may be repeated.",
    ),
    click.option(
        "--web.systemd-socket", "from_systemd", is_flag=True, help="Listen on the sockets that systemd opened."
    ),
    click.option(
        "--web.config.file",
        "web_file",
        type=click.Path(path_type=Path),
        help="TLS, passwords and headers, in the common format of exporters (docs/web.md).",
    ),
    click.option(
        "--web.telemetry-path", "telemetry_path", default="/metrics", show_default=True, help="The path of the metrics."
    ),
    click.option(
        "--web.external-url",
        "external_url",
        help="The address of the page for browsers behind a proxy; its host name is accepted.",
    ),
    click.option(
        "--web.route-prefix", "prefix", help="The prefix of every path; by default the path of --web.external-url."
    ),
    click.option(
        "--log.level",
        "level",
        type=click.Choice(("debug", "info", "warn", "error")),
        default="info",
        show_default=True,
        help="The least severe level that is logged.",
    ),
    click.option(
        "--log.format",
        "form",
        type=click.Choice(("logfmt", "json")),
        default="logfmt",
        show_default=True,
        help="The format of log lines.",
    ),
)


def _serve_options(command: Command) -> Command:
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    return command


@click.command()
@config_file_option
@_serve_options
def serve(
    config_file: Path,
    addresses: tuple[str, ...],
    web_file: Path | None,
    telemetry_path: str,
    external_url: str | None,
    prefix: str | None,
    level: str,
    form: LogFormat,
    *,
    from_systemd: bool,
) -> None:
    """Watch the configured databases, publish metrics, and act where the configuration allows it."""
    config = read_config(config_file)
    configure_logging(level, form)
    try:
        mount = parse_mount(telemetry_path, prefix, external_url)
        web = ReloadingWebConfig(web_file)
        sockets = systemd.inherit_sockets(os.environ) if from_systemd else bind_listen_addresses(addresses)
    except (InvalidMount, ConfigErrors) as error:
        raise UsageProblem(str(error)) from error
    except (CannotListen, systemd.NoInheritedSockets) as error:
        raise click.ClickException(str(error)) from error
    hosts = tuple(str(listener.getsockname()[0]) for listener in sockets)
    if (problem := exposure_problem(config.acting, hosts)) is not None:
        raise UsageProblem(problem)
    for warning in (*config.warnings, *_unknown_user_warnings(config, web)):
        log_event(LOG, logging.WARNING, warning)
    _run_agent(config, web, mount, sockets)


def _run_agent(config: Config, web: ReloadingWebConfig, mount: Mount, sockets: list[socket.socket]) -> None:
    relax_garbage_collection()
    agent = Agent(config, web, mount, tuple(str(listener.getsockname()[0]) for listener in sockets))
    try:
        agent.start()
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from error
    address = " ".join(listening_urls(sockets, "https" if web.current_config().tls is not None else "http"))
    log_event(LOG, logging.INFO, "listening", version=VERSION, address=address, acting=config.acting.enabled)
    server = HttpServer(
        build_web_app(agent.web_context),
        web=web.current_config,
        on_hangup=_in_background_thread(lambda: _reload_agent(agent)),
        on_start=lambda: systemd.send_notification("READY=1", f"STATUS=answering on {address}"),
        on_stop=lambda: _begin_stop(agent),
        behind_proxy=bool(mount.own_hosts),
    )
    _start_watchdog_pings(server)
    try:
        server.run(sockets)
    finally:
        agent.stop()
    log_event(LOG, logging.INFO, "stopped")
    sys.exit(0)


def _reload_agent(agent: Agent) -> None:
    systemd.notify_reloading()
    agent.reload_configuration()
    systemd.send_notification("READY=1")


def _begin_stop(agent: Agent) -> None:
    systemd.send_notification("STOPPING=1")
    agent.begin_to_stop()


def _start_watchdog_pings(server: HttpServer) -> None:
    """Ping systemd from the loop that answers requests: when it hangs, systemd restarts the agent."""
    interval = systemd.watchdog_interval(os.environ)
    if interval is not None:
        server.call_every(interval, lambda: systemd.send_notification("WATCHDOG=1"))


def _unknown_user_warnings(config: Config, web: ReloadingWebConfig) -> tuple[str, ...]:
    unknown = sorted(config.acting.users - web.current_config().users.keys())
    where = "basic_auth_users of --web.config.file"
    return tuple(
        f"actions.allow.users: {name} is not in {where}, so no request can act as this user" for name in unknown
    )


def _in_background_thread(reload: Callable[[], object]) -> Callable[[], None]:
    """A function that starts `reload` in a thread: it reads files and lists folders, which would delay scrapes."""
    return lambda: threading.Thread(target=reload, name="reload", daemon=True).start()
