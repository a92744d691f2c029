"""What `DB` on a command line means: a path, or the name of a configured database."""

import os
from dataclasses import replace
from pathlib import Path

import click

from actions.model.outcome import USAGE_ERROR
from actions.store.database import default_state_directory
from collectors.target import Target
from exporter.config.known import known_actions, known_metrics
from exporter.config.load import load_config
from exporter.config.problems import ConfigErrors, suggest_name
from exporter.config.resolve import resolve_targets
from exporter.config.settings import Config


class UsageProblem(click.ClickException):
    """What was asked for cannot be meant; exit 2, one line, without the usage text that click would add."""

    exit_code = USAGE_ERROR


def resolve_target(db: str, config_file: str | None, state: Path | None) -> Target:
    """The database that is meant. With a configuration: the one of this name, or of this path, with its settings.

    Raises UsageProblem with one line that says what is known.
    """
    found = resolve_targets(read_config(Path(config_file))) if config_file else ()
    target = next((one for one in found if db in (one.name, str(one.path)) or _is_same_file(db, one)), None)
    if target is None:
        target = _target_of_path(db, tuple(one.name for one in found))
    return replace(target, state=_check_state_directory(state)) if state else target


def resolve_missing_target(db: str, config_file: str | None, state: Path | None) -> Target:
    """Like `resolve`, for a database that may be gone: a path in an existing directory is enough. Raises UsageProblem."""
    path = Path(os.path.realpath(db))
    if config_file or path.exists() or not path.parent.is_dir() or "/" not in db:
        return resolve_target(db, config_file, state)
    return Target(name=path.stem, path=path, state=_check_state_directory(state or default_state_directory()))


def resolve_history_scope(db: str | None, config_file: str | None, state: Path | None) -> tuple[str | None, Path]:
    """The database's name in history (None for all), and the directory of the history. Raises UsageProblem.

    A database that is gone still has its history: an unknown word that is no path is taken for its former name.
    """
    directory = _state_directory(config_file, state)
    if db is None:
        return None, directory
    looks_like_path = "/" in db or Path(db).exists()
    known = {one.name for one in resolve_targets(read_config(Path(config_file)))} if config_file else set()
    if db in known or not looks_like_path:
        return db, directory
    return resolve_target(db, config_file, state).name, directory


def read_config(path: Path) -> Config:
    """The configuration, or UsageProblem with everything that is wrong with it."""
    try:
        return load_config(path, known_actions(), known_metrics())
    except ConfigErrors as error:
        head = ("the configuration has errors:",) if len(error.lines) > 1 else ()
        raise UsageProblem("\n".join((*head, *error.lines))) from error


def _state_directory(config_file: str | None, state: Path | None) -> Path:
    if state is not None:
        return _check_state_directory(state)
    return read_config(Path(config_file)).state if config_file else default_state_directory()


def _check_state_directory(state: Path) -> Path:
    if state.exists() and not state.is_dir():
        raise UsageProblem(f"{state} is not a directory; --state names the one where the history lives")
    return state.absolute()


def _is_same_file(db: str, target: Target) -> bool:
    return os.path.realpath(db) == str(target.path)


def _target_of_path(db: str, names: tuple[str, ...]) -> Target:
    path = Path(os.path.realpath(db))
    if path.is_dir():
        raise UsageProblem(f"{db} is a directory; give the path of the database file")
    if not path.exists():
        raise UsageProblem(f"{db} not found; {_not_found_next_step(db, names)}")
    if not path.is_file():
        raise UsageProblem(f"{db} is not a regular file; give the path of the database file")
    return Target(name=path.stem, path=path, state=default_state_directory())


def _not_found_next_step(db: str, names: tuple[str, ...]) -> str:
    if names:
        return f"give a path, or a configured name; {suggest_name(db, names)}"
    return "give the path of an existing file, or a configured name with --config.file FILE"
