"""Resolves the argument `DB`: the path of a database file, or the name of a configured database."""

import os
from dataclasses import replace
from pathlib import Path

import click

from actions.model.outcome import USAGE_ERROR
from actions.store.database import default_state_directory
from collectors.target import Target
from exporter.config.load import known_actions, known_metrics, load_config
from exporter.config.problems import ConfigErrors, suggest_name
from exporter.config.resolve import resolve_targets
from exporter.config.settings import Config


class UsageProblem(click.ClickException):
    """A wrong argument or option: one line and exit code 2, without the usage text that click would add."""

    exit_code = USAGE_ERROR


def resolve_target(db: str, config_file: str | None, state: Path | None) -> Target:
    """The database that `db` names. With a configuration: the database of this name or path, with its settings.

    Raises UsageProblem with one line that lists the known names.
    """
    configured = resolve_targets(read_config(Path(config_file))) if config_file else ()
    target = next((each for each in configured if db in (each.name, str(each.path)) or _is_same_file(db, each)), None)
    if target is None:
        target = _target_of_path(db, tuple(each.name for each in configured))
    return replace(target, state=_check_state_directory(state)) if state else target


def resolve_missing_target(db: str, config_file: str | None, state: Path | None) -> Target:
    """Like `resolve_target`, for a database that may be gone: its directory must exist. Raises UsageProblem."""
    path = Path(os.path.realpath(db))
    if config_file or path.exists() or not path.parent.is_dir() or "/" not in db:
        return resolve_target(db, config_file, state)
    return Target(name=path.stem, path=path, state=_check_state_directory(state or default_state_directory()))


def resolve_new_target(to: str, state: Path | None) -> Target:
    """A database that is to be made at this path; named after it in the history. Raises UsageProblem."""
    path = Path(os.path.realpath(to))
    if not path.parent.is_dir():
        raise UsageProblem(f"{path.parent} is no directory; make it (mkdir -p), or mount its disk")
    return Target(name=path.stem, path=path, state=_check_state_directory(state or default_state_directory()))


def resolve_history_scope(db: str | None, config_file: str | None, state: Path | None) -> tuple[str | None, Path]:
    """(the database's name in the history, None for all; the directory of the history). Raises UsageProblem.

    A deleted database still has its history: an unknown word that is no path counts as its former name.
    """
    directory = _state_directory(config_file, state)
    if db is None:
        return None, directory
    looks_like_path = "/" in db or Path(db).exists()
    known = {each.name for each in resolve_targets(read_config(Path(config_file)))} if config_file else set()
    if db in known or not looks_like_path:
        return db, directory
    return resolve_target(db, config_file, state).name, directory


def read_config(path: Path) -> Config:
    """The configuration of this file. Raises UsageProblem with every error in it, one a line."""
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
        raise UsageProblem(f"{state} is not a directory; --state names the directory of the history")
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
