"""`queuekeeper config check|example|schema|explain`: commands about the configuration file."""

import json
from pathlib import Path

import click

from exporter.commands.explain import explain
from exporter.config.load import example_text, known_actions, known_metrics, load_config
from exporter.config.problems import ConfigErrors
from exporter.config.resolve import resolve_targets
from exporter.config.schema import ConfigFile
from exporter.config.settings import Config


@click.group()
def config() -> None:
    """Check a configuration file, explain it, print an example or its schema."""


config.add_command(explain)


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Read FILE as `serve` would, and print every error in it at once."""
    try:
        loaded = load_config(file, known_actions(), known_metrics())
    except ConfigErrors as error:
        for line in error.lines:
            click.echo(line, err=True)
        raise click.exceptions.Exit(2) from error
    for line in loaded.warnings:
        click.echo(f"warning: {line}", err=True)
    click.echo(summarize_config(loaded))


@config.command()
def example() -> None:
    """Print a configuration that loads, with every part explained."""
    click.echo(example_text(), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors that complete and check YAML by it."""
    made = ConfigFile.model_json_schema(by_alias=True)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "queuekeeper configuration"}
    click.echo(json.dumps({**made, **head}, indent=2))


def summarize_config(loaded: Config) -> str:
    """One line: how many databases and rules the configuration has here, and whether acting is enabled."""
    databases = resolve_targets(loaded)
    missing = sum(not target.path.exists() for target in databases)
    gone = f" ({missing} missing now)" if missing else ""
    acting = "acting is enabled" if loaded.acting.enabled else "acting is disabled: observe only"
    return f"{loaded.source}: ok; databases: {len(databases)}{gone}, rules: {len(loaded.rules)}; {acting}"
