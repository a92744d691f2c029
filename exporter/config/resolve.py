"""Resolves configured entries to the databases that exist now: globs, names, and files that are never watched."""

import fnmatch
import glob
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from collectors.backup_catalog.names import FILE_PATTERNS
from collectors.target import Target
from exporter.config.settings import Config, DatabaseSpec

# Files of queuekeeper and the files that SQLite keeps beside a database: a glob never matches them.
NEVER_WATCHED = ("*-wal", "*-shm", "*-journal", "*.partial", "*.lock", *FILE_PATTERNS)


def resolve_targets(config: Config) -> tuple[Target, ...]:
    """The databases to watch now, in the order of the file. Lists directories, opens no file.

    A configured path is watched even while it is missing; a glob gives the files that match now.
    A file of two entries belongs to the entry that names it, otherwise to the first.
    """
    specs = _explicit_paths(config.databases)
    for spec in config.databases:
        if spec.is_glob:
            for path in _glob_matches(spec.path, config):
                specs.setdefault(path, spec)
    fixed = {path: spec.name for path, spec in specs.items() if spec.name is not None}
    names = _unique_names([path for path in specs if path not in fixed], set(fixed.values()))
    return tuple(_build_target(path, fixed.get(path) or names[path], spec, config) for path, spec in specs.items())


def _explicit_paths(specs: tuple[DatabaseSpec, ...]) -> dict[Path, DatabaseSpec]:
    # SQLite keeps -wal and -shm beside the file that a link leads to, so the watched path is that of the file.
    explicit: dict[Path, DatabaseSpec] = {}
    for spec in specs:
        if not spec.is_glob:
            explicit.setdefault(Path(os.path.realpath(spec.path)), spec)
    return explicit


def _glob_matches(pattern: str, config: Config) -> Iterator[Path]:
    for text in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute pattern
        path = Path(os.path.realpath(text))
        if _is_regular_file(path) and not _is_own_file(path, config):
            yield path


def _is_regular_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False  # gone between the listing and now


def _is_own_file(path: Path, config: Config) -> bool:
    if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in NEVER_WATCHED):
        return True
    if path.is_relative_to(os.path.realpath(config.state)):
        return True
    places = {os.path.realpath(spec.backup.directory) for spec in config.databases if spec.backup is not None}
    # backups lie in DIRECTORY/DATABASE/; a database directly in DIRECTORY may well be the application's
    return any(path.is_relative_to(place) and path.parent != Path(place) for place in places)


def _unique_names(paths: list[Path], used: set[str]) -> dict[Path, str]:
    """A name for each path: its stem, and for equal stems as many parent folders as make the names unique."""
    names = {path: path.stem for path in paths}
    longest = max((len(path.parts) for path in paths), default=0)
    for length in range(1, longest + 1):
        counts = Counter(names.values())
        again = [path for path, name in names.items() if counts[name] > 1 or name in used]
        if not again:
            return names
        names |= {path: _path_tail(path, length) for path in again}
    return {path: name if Counter(names.values())[name] == 1 else str(path) for path, name in names.items()}


def _path_tail(path: Path, parents: int) -> str:
    folders = [part for part in path.parent.parts if part != path.anchor][-parents:]
    return "/".join([*folders, path.stem])


def _build_target(path: Path, name: str, spec: DatabaseSpec, config: Config) -> Target:
    return Target(
        name=name,
        path=path,
        profile=spec.profile,
        owner_sqlite=spec.owner_sqlite,
        settings=spec.settings,
        backup=spec.backup,
        limits=config.limits,
        slow_interval=config.slow_interval,
        state=config.state,
    )
