"""`queuekeeper demo`: shows how queuekeeper heals a queue; needs nothing but Python."""

import signal
import sys
import time
from types import FrameType

import click

from exporter.demo.stage import DemoStage, open_stage
from exporter.demo.story import tell_story


@click.command()
@click.option("--seconds", type=float, help="End when everything is healed, or after this time with exit code 1.")
def demo(seconds: float | None) -> None:
    """Run a temporary queue with workers, a crash, a growing WAL and a slow reader, and let queuekeeper heal it."""
    signal.signal(signal.SIGTERM, _raise_interrupt)
    begun = time.monotonic()

    def print_timed_lines(*texts: str) -> None:
        at = time.monotonic() - begun
        click.echo("\n".join(f"{at:6.1f} s  {text}" for text in texts))

    healed = True
    try:
        with open_stage() as props:
            props.start_agent()
            _print_introduction(props)
            healed = tell_story(props, print_timed_lines, seconds)
            if seconds is not None:
                click.echo(
                    "all healed" if healed else "not everything was healed in time; see the lines above", err=not healed
                )
    except KeyboardInterrupt:
        click.echo("\nstopped; everything is removed")
    sys.exit(0 if healed else 1)


def _print_introduction(props: DemoStage) -> None:
    click.echo(
        f"A queue with live workers in {props.folder}, watched by queuekeeper. Ctrl-C ends it and removes everything."
    )
    click.echo(f"  page      {props.url}/ (to act there, log in with the token in {props.folder}/token)")
    click.echo(f"  metrics   {props.url}/metrics")
    click.echo(f"  log       {props.folder}/agent.log")
    if props.monitoring is not None:
        click.echo(f"  alerts    http://{props.monitoring.prometheus_address}/alerts (Prometheus)")
        click.echo(f"            http://{props.monitoring.alertmanager_address}/ (Alertmanager; it calls the webhook)")
    else:
        click.echo(
            "  alerts    none: Prometheus and Alertmanager are not installed or did not start; thresholds start the actions"
        )
    click.echo(f"  try       queuekeeper stats jobs --config.file {props.config_path}")
    click.echo(f"            queuekeeper readers jobs --config.file {props.config_path}")
    click.echo(f"            queuekeeper history --config.file {props.config_path}")


def _raise_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
