"""Every error that a user of the command line can cause is one helpful line with the right exit code."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from actions.registry import ACTIONS
from exporter.commands.main import main
from tests.support.scenes import error_world
from tests.support.scenes.error_world import (
    During,
    World,
    damaged_backup,
    foreign,
    held,
    locked,
    nothing,
    paused,
    pinned,
    port_taken,
)

USAGE, FAILED, REFUSED, BUSY, UNVERIFIED = 2, 1, 3, 4, 5


@dataclass(frozen=True)
class Case:
    """`@name` in the arguments is a file of the world; `says` must all be in the one line."""

    arguments: str
    exit_code: int
    says: tuple[str, ...]
    during: During = nothing


def case(arguments: str, exit_code: int, *says: str, during: During = nothing) -> Case:
    return Case(arguments, exit_code, says, during)


HERE = "--config.file @good.yaml"
CASES = [
    # what click itself finds
    case("", USAGE, "Usage: "),
    case("chekpoint jobs", USAGE, "No such command 'chekpoint'", "--help"),
    case("checkpoint", USAGE, "Missing argument 'DB'", "queuekeeper checkpoint --help"),
    case("checkpoint @jobs.db --modus full", USAGE, "No such option", "--mode"),
    case("checkpoint @jobs.db --mode fast", USAGE, "'fast' is not one of", "truncate"),
    case("checkpoint @jobs.db --owner-sqlite new", USAGE, "'new' is not a version", "3.51.3"),
    case("backup @jobs.db one two", USAGE, "unexpected extra argument", "--help"),
    case("serve", USAGE, "Missing option '--config.file'", "QUEUEKEEPER_CONFIG"),
    case("status", USAGE, "Missing option '--config.file'", "QUEUEKEEPER_CONFIG"),
    case("serve --config.file @good.yaml --log.level loud", USAGE, "'loud' is not one of", "debug"),
    case("requeue @jobs.db --older-than 300", USAGE, '"300" is not a duration', "like 15s"),
    case("requeue @jobs.db --older-than=-5s", USAGE, "is not a duration", "like 15s"),
    case("requeue @jobs.db --limit 0", USAGE, "--limit", "x>=1"),
    case("backups prune @jobs.db --keep-last 0", USAGE, "--keep-last", "x>=1"),
    case("readers @jobs.db --seconds -1", USAGE, "--seconds", "0<=x<=3600"),
    case("history --limit many", USAGE, "'many' is not a valid integer"),
    case("pause --wait long", USAGE, '"long" is not a duration'),
    case("cancel first", USAGE, "'first' is not a valid integer"),
    case("demo --seconds soon", USAGE, "'soon' is not a valid float"),
    case("profiles", USAGE, "Usage: "),
    case("hash-password --cost 99", USAGE, "--cost", "4<=x<=18"),
    # which database
    case("stats nowhere.db", USAGE, "nowhere.db not found", "--config.file"),
    case("checkpoint nowhere.db", USAGE, "nowhere.db not found", "--config.file"),
    case("backup @nowhere.db --to @empty", USAGE, "not found"),
    case("requeue @folder", USAGE, "is a directory; give the path of the database file"),
    case("readers @folder", USAGE, "is a directory"),
    case("stats @pipe.db", USAGE, "is not a regular file"),
    case("checkpoint @pipe.db", USAGE, "is not a regular file"),
    case("profiles detect @pipe.db", USAGE, "is not a regular file"),
    case(f"checkpoint job {HERE}", USAGE, "job not found", 'did you mean "jobs"?'),
    case(f"stats job {HERE}", USAGE, "job not found", 'did you mean "jobs"?'),
    case(f"leases-of {HERE}", USAGE, "No such command"),
    case(f"backups list nowhere {HERE}", USAGE, "nowhere not found", "known: "),
    case(f"checkpoint gone {HERE}", FAILED, "gone.db not found", "check the path"),
    case(f"backup gone {HERE}", FAILED, "gone.db not found", "check the path"),
    case(f"requeue folder {HERE}", FAILED, "is not a regular file", "check the path"),
    case("checkpoint @text.db", FAILED, "is no SQLite database, or it is encrypted"),
    case("backup @text.db --to @empty", FAILED, "is no SQLite database, or it is encrypted"),
    case("requeue @encrypted.db", FAILED, "is no SQLite database, or it is encrypted"),
    case("requeue @short.db", FAILED, "is no SQLite database, or it is encrypted"),
    case("leases @folder", USAGE, "is a directory"),
    case("leases @encrypted.db", FAILED, "is no SQLite database, or it is encrypted"),
    case("stats @encrypted.db", FAILED, "is no SQLite database, or it is encrypted"),
    case("profiles detect @text.db", USAGE, "is no SQLite database, or it is encrypted"),
    # the configuration
    case("status --config.file @missing.yaml", USAGE, "cannot be read: No such file", "check the path"),
    case("config check @missing.yaml", USAGE, "cannot be read: No such file", "check the path"),
    case("config check @folder", USAGE, "cannot be read: Is a directory"),
    case("config check @typo.yaml", USAGE, "typo.yaml:6: limts: unknown key", 'did you mean "limits"?'),
    case("config check @bad.yaml", USAGE, "bad.yaml:", "not YAML"),
    case("config check @binary.yaml", USAGE, "not UTF-8"),
    case("config explain", USAGE, "no configuration named", "QUEUEKEEPER_CONFIG"),
    case("config explain @typo.yaml", USAGE, "limts: unknown key"),
    case("checkpoint jobs --config.file @typo.yaml", USAGE, "limts: unknown key"),
    case("serve --config.file @typo.yaml", USAGE, "limts: unknown key"),
    case("pause --config.file @typo.yaml", USAGE, "limts: unknown key"),
    case("history --config.file @list.yaml", USAGE, "no configuration in it", "queuekeeper config example"),
    case("status --config.file @none.yaml", USAGE, "no database exists now", "check `path`"),
    # profiles
    case("profiles show hue", USAGE, "no profile is called 'hue'", "huey", "the path of a file"),
    case("profiles check @missing.yaml", USAGE, "missing.yaml: cannot be read: No such file", "check the path"),
    case("profiles check @profile.yaml", USAGE, "profile.yaml: profile: Field required"),
    case("profiles check @shipped.yaml @nowhere.db", USAGE, "nowhere.db not found"),
    case("profiles check @shipped.yaml @plain.db", USAGE, "does not fit"),
    case("profiles check @shipped.yaml --set grace", USAGE, "--set grace", "NAME=VALUE"),
    case("profiles check @shipped.yaml --set grace=long", USAGE, "grace is a number"),
    case("profiles check @shipped.yaml --set speed=1", USAGE, "speed"),
    case("requeue @plain.db", REFUSED, "is no queue that a profile knows", "`profile:`"),
    case("requeue @huey.db", REFUSED, "nothing to requeue", "docs/profiles.md"),
    case("requeue @gated.db", REFUSED, "cannot tell an abandoned task", "--workers-stopped"),
    case("purge nowhere.db", USAGE, "nowhere.db not found"),
    case("purge @jobs.db --older-than 7", USAGE, '"7" is not a duration'),
    case("purge @plain.db", REFUSED, "is no queue that a profile knows", "`profile:`"),
    case(f"purge jobs {HERE}", REFUSED, "paused (by ann: migration)", "queuekeeper resume", during=paused),
    # what would have run
    case("simulate", USAGE, "Missing argument 'FILES...'"),
    case(f"simulate @nowhere {HERE}", USAGE, "cannot be read"),
    case(f"simulate @text.db {HERE}", USAGE, "text.db"),
    # vacuum, statistics, integrity
    case("vacuum nowhere.db", USAGE, "nowhere.db not found"),
    case("vacuum @text.db", FAILED, "is no SQLite database, or it is encrypted"),
    case("vacuum @jobs.db --incremental", REFUSED, "auto_vacuum is none", "leave --incremental out"),
    case("vacuum @jobs.db --free-for 1", USAGE, '"1" is not a duration'),
    case(f"vacuum jobs {HERE}", REFUSED, "paused (by ann: migration)", "queuekeeper resume", during=paused),
    case("analyze @jobs.db --table tasks", REFUSED, "there is no table tasks", "its tables: ballast"),
    case("analyze @encrypted.db", FAILED, "is no SQLite database, or it is encrypted"),
    case("analyze jobs --config.file @greedy.yaml", REFUSED, "bytes are missing", "limits.disk_reserve"),
    case("optimize @folder", USAGE, "is a directory"),
    case("optimize @encrypted.db", FAILED, "is no SQLite database, or it is encrypted"),
    case(f"optimize jobs {HERE}", BUSY, "another action is running", "queuekeeper history", during=locked),
    case("integrity @jobs.db --on-backup", REFUSED, "no backup directory", "--from DIR"),
    case("integrity @jobs.db --on-backup --from @empty", REFUSED, "no verified backup", "queuekeeper backup"),
    case("integrity @jobs.db --from @nowhere", USAGE, "nowhere not found", "--from"),
    case("integrity @journal.db", BUSY, "holds_all.py", "holds the database", "queuekeeper readers", during=held),
    case("optimize @journal.db", BUSY, "holds_all.py", "holds the database", "queuekeeper readers", during=held),
    case("integrity @text.db", UNVERIFIED, "text.db is damaged"),
    # rules
    case("rules render --threshold wal", USAGE, "wal", "NAME=VALUE"),
    case("rules render --threshold wall=1GiB", USAGE, "names no threshold", "wal=64MiB"),
    case("rules render --threshold wal=large", USAGE, "large", "64MiB"),
    case("rules render --format toml", USAGE, "'toml' is not one of", "operator"),
    # purge
    case("purge @plain.db", REFUSED, "is no queue that a profile knows", "`profile:`"),
    case("purge @encrypted.db", FAILED, "is no SQLite database, or it is encrypted"),
    case("purge @jobs.db --older-than 7", USAGE, '"7" is not a duration'),
    case("purge jobs --config.file @greedy.yaml", REFUSED, "bytes are missing", "limits.disk_reserve"),
    case(f"purge jobs {HERE}", REFUSED, "paused (by ann: migration)", "queuekeeper resume", during=paused),
    # simulate, hash-password
    case("simulate --config.file @good.yaml", USAGE, "Missing argument 'FILES...'", "--help"),
    case("simulate @missing.json --config.file @good.yaml", USAGE, "missing.json"),
    case("simulate @text.db --config.file @good.yaml", USAGE, "text.db"),
    case("simulate @text.db --config.file @typo.yaml", USAGE, "limts: unknown key"),
    case("hash-password", USAGE, "no password was given", "pipe it in"),
    case("config check @enabled.yaml", USAGE, "no-token cannot be read", "mode 0600"),
    # guards and circumstances
    case(f"requeue jobs {HERE}", REFUSED, "paused (by ann: migration)", "queuekeeper resume", during=paused),
    case(f"requeue jobs --dry-run {HERE}", REFUSED, "paused (by ann: migration)", "queuekeeper resume", during=paused),
    case(f"backup jobs {HERE}", REFUSED, "paused (by ann: migration)", "queuekeeper resume", during=paused),
    case(f"checkpoint jobs {HERE}", BUSY, "another action is running", "queuekeeper history", during=locked),
    case(f"requeue jobs {HERE}", BUSY, "another action is running", "queuekeeper history", during=locked),
    case(f"checkpoint jobs {HERE}", BUSY, "held back by pid", "held_reader.py", "end its read", during=pinned),
    case("checkpoint @jobs.db", BUSY, "a reader holds the WAL", "WAL-reset bug", "held_reader.py", during=pinned),
    case("checkpoint @jobs.db --mode passive", REFUSED, "WAL-reset bug", "--owner-sqlite 3.51.3"),
    case("checkpoint @jobs.db --mode full --owner-sqlite 3.45.1", REFUSED, "SQLite 3.45.1 has", "--mode auto"),
    case("requeue @foreign.db --state @nobodys", REFUSED, "belongs to user", "as root", during=foreign),
    case("requeue jobs --config.file @greedy.yaml", REFUSED, "bytes are missing", "limits.disk_reserve"),
    case("backup jobs --config.file @greedy.yaml", REFUSED, "bytes are missing", "limits.disk_reserve"),
    case("backup @jobs.db --to /proc/queuekeeper", REFUSED, "bytes are missing", "free space there"),
    # backups
    case("backup @jobs.db", REFUSED, "no backup directory", "--to DIR"),
    case("backup @jobs.db --to @text.db", FAILED, "text.db", "name another directory"),
    case("backup @jobs.db --to @empty --name a/b", REFUSED, "'a/b' cannot be part of a file name", "letters, digits"),
    case("backups list @jobs.db", USAGE, "no backup directory is known", "--from DIR"),
    case("backups list @jobs.db --from @nowhere", USAGE, "nowhere", "not found"),
    case("backups verify @jobs.db", REFUSED, "no backup directory", "--from DIR"),
    case("backups drill @jobs.db", REFUSED, "no backup directory", "--from DIR"),
    case("backups prune @jobs.db", REFUSED, "no backup directory", "--from DIR"),
    case("backups verify @jobs.db @none.db", FAILED, "none.db not found", "queuekeeper backups list"),
    case("backups verify @jobs.db @plain.db", UNVERIFIED, "plain.db has no readable manifest", "take a new backup"),
    case(f"backups verify jobs {HERE}", UNVERIFIED, "is not what was written", "take a new one", during=damaged_backup),
    case("backups verify @plain.db @BACKUP", UNVERIFIED, "is a backup of", "not of", "name the right database"),
    case("restore @jobs.db", USAGE, "say where to restore", "--to PATH or --in-place"),
    case("restore @jobs.db --to @new.db --in-place", USAGE, "say where to restore", "--to PATH or --in-place"),
    case("restore @jobs.db --to @new.db", REFUSED, "no backup directory", "--from DIR"),
    case("restore @jobs.db --to @new.db --from @empty", REFUSED, "no verified backup", "queuekeeper backup"),
    case("restore @jobs.db @none.db --to @new.db", FAILED, "none.db not found", "queuekeeper backups list"),
    case(f"restore jobs --to @text.db {HERE}", REFUSED, "text.db", "exist", "another path"),
    case("restore @plain.db @BACKUP --in-place --yes", UNVERIFIED, "is a backup of", "name the right database"),
    case(f"restore jobs --in-place --yes {HERE}", UNVERIFIED, "is not what was written", during=damaged_backup),
    # history
    case("history --state @text.db", USAGE, "text.db is not a directory", "--state"),
    case("requeue @jobs.db --state @text.db", USAGE, "text.db is not a directory", "--state"),
    case("requeue @jobs.db --state @broken-state", FAILED, "cannot use the history in", "--state"),
    case("resume --state /proc/queuekeeper", FAILED, "cannot use the history in", "--state"),
    case("requeue @jobs.db --state /proc/queuekeeper", FAILED, "cannot use the history in", "--state"),
    case("pause --state @broken-state", FAILED, "cannot use the history in", "--state"),
    case("history --state @broken-state", FAILED, "cannot use the history in", "--state"),
    case(f"cancel 999 {HERE}", USAGE, "there is no run 999", "queuekeeper history"),
    case(f"cancel 1 {HERE}", REFUSED, "run 1 has ended already (done)", "queuekeeper history"),
    # serve
    case("serve --config.file @good.yaml --web.config.file @missing.yaml", USAGE, "missing.yaml"),
    case("serve --config.file @good.yaml --web.config.file @web.yaml", USAGE, "web.yaml", "ann"),
    case("serve --config.file @good.yaml --web.config.file nowhere.yml", USAGE, "cannot be read", "check the path"),
    case("serve --config.file @good.yaml --web.external-url ops", USAGE, "is not an address", "http://HOST/PATH"),
    case("serve --config.file @good.yaml --web.systemd-socket", FAILED, "no socket was passed on", ".socket unit"),
    case("serve --config.file @good.yaml --web.listen-address nine", FAILED, "'nine' is not an address", "HOST:PORT"),
    case(
        "serve --config.file @good.yaml --web.listen-address @TAKEN",
        FAILED, "cannot listen on 127.0.0.1", "choose another port", during=port_taken,
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="errors-") as folder, error_world.world(Path(folder)) as made:
        assert run(made, f"backup jobs {HERE}").exit_code == 0
        yield made


def run(world: World, arguments: str) -> Result:
    words = [_word(world, word) for word in shlex.split(arguments)]
    environment = {"XDG_STATE_HOME": world["default"], "QUEUEKEEPER_CONFIG": ""}
    return CliRunner().invoke(main, words, prog_name="queuekeeper", env=environment)


def _word(world: World, word: str) -> str:
    if word == "@BACKUP":
        return str(error_world.backup_of(world))
    if word == "@TAKEN":
        return world.taken
    return world[word[1:]] if word.startswith("@") else word


def test_the_table_covers_every_command_that_is_no_action(world: World) -> None:
    """What every action's command shares is tested for all of them below, so that a new action needs no line here."""
    covered = {word for case in CASES for word in case.arguments.split()[:2]}
    quiet = {"config", "resume", "example", "schema", "list"}
    assert set(main.commands) - quiet - set(ACTIONS) <= covered
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", [name for name in ACTIONS if ACTIONS[name].SPEC.needs_database])
def test_a_wrong_path_of_any_action_is_one_helpful_line(world: World, name: str) -> None:
    command = ACTIONS[name].SPEC.command
    for path, words in (("nowhere.db", "not found"), ("@folder", "is a directory")):
        result = run(world, f"{command} {path}")
        assert result.exit_code == USAGE, result.output
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.arguments or 'nothing'} {case.during.__name__}")
def test_an_error_is_one_helpful_line_with_the_right_exit_code(world: World, case: Case) -> None:
    with case.during(world):
        result = run(world, case.arguments)
    lines = [line for line in result.stderr.splitlines() if line]
    assert (result.exit_code, result.exception.__class__) == (case.exit_code, SystemExit), result.output
    if case.says != ("Usage: ",):  # no command at all: then its help is what helps
        assert len(lines) == 1, result.stderr
    for words in case.says:
        assert words in lines[0]
    assert len(lines[0]) < 600


def test_a_reader_of_the_output_that_leaves_is_no_failure_of_the_run(tmp_path: Path) -> None:
    apsw.Connection(str(tmp_path / "jobs.db")).execute("CREATE TABLE t (x)")
    # The reading end of standard output is closed before anything is written to it.
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "exporter.commands", "backup", "jobs.db", "--to", "backups", "--state", "state"]
    with os.fdopen(writing, "wb") as output:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert "nothing was done" not in ended.stderr
    assert len(list((tmp_path / "backups").rglob("*.manifest.json"))) == 1
