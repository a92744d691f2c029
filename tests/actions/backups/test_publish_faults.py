"""Each error of the system at each call of a backup and a restore: nothing half is left, and what was there is there.

The calls are those of this process, made to fail one by one; the kernel's own refusals (strace) are at the end. Which call
fails is counted up until a run meets none: so every call of the run has failed once.
"""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.backups import no_overwrite
from actions.model.errors import ActionError
from actions.runner.execute import translate_io_error
from collectors.access.connection import open_immutable
from collectors.backup_catalog.store import find_backups
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes.run_actions import target_of
from tests.support.scenes.run_in_process import run_here, work_on

ROWS = 200
ERRNOS = {
    "link": (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES),
    "renameat2": (errno.EINVAL, errno.ENOSYS, errno.EPERM),
    "rename": (errno.EACCES, errno.EIO),
    "replace": (errno.EPERM, errno.EIO),
    "unlink": (errno.EPERM, errno.EROFS),
    "fsync": (errno.EIO, errno.EINVAL),
    "open": (errno.EMFILE, errno.EACCES),
    "chown": (errno.EPERM, errno.EINVAL),
    "chmod": (errno.EPERM,),
    "mkdir": (errno.EACCES,),
}
WAYS = ("backup", "to", "missing", "malformed", "live")


class FaultyCalls:
    """Makes the `number`th call of a function fail, `always` all of them from there on; counts the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.monkeypatch, self.names = monkeypatch, names

    def fail(self, code: int, number: int, *, always: bool = False) -> "FaultyCalls":
        self.calls, self.number, self.code, self.always = 0, number, code, always
        for name in self.names:
            if name == "renameat2":
                self._patch(no_overwrite, "_call_renameat2")
            else:
                self._patch(os, name)
        return self

    def _patch(self, module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.number or (self.always and self.calls > self.number):
                raise OSError(self.code, os.strerror(self.code), *(str(each) for each in arguments[:1]))
            return real(*arguments, **options)

        self.monkeypatch.setattr(module, name, call)

    @property
    def happened(self) -> bool:
        return self.calls >= self.number


@pytest.fixture
def scene(tmp_path: Path, raw: RawReader) -> "Scene":
    return Scene(tmp_path, raw)


class Scene:
    """A database with a verified backup, as each way finds it; made anew for each run."""

    def __init__(self, folder: Path, raw: RawReader) -> None:
        self.raw = raw
        self.app = folder / "app"
        self.store = folder / "b"
        self.app.mkdir()
        place = BackupSettings(self.store, own_folder=False)
        self.target = replace(
            target_of(self.app / "jobs.db", backup=place, limits=Limits(disk_reserve=0)), state=folder / "state"
        )
        self.first = folder / "first"
        self._make_database()
        run_here("backup", work_on(self.target, raw))
        shutil.copytree(self.store, self.first)

    def _make_database(self) -> None:
        owner = apsw.Connection(str(self.target.path))
        owner.execute(
            "PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, v); WITH RECURSIVE s(i) AS "
            f"(SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {ROWS}) INSERT INTO t SELECT i, hex(randomblob(40)) FROM s"
        ).fetchall()
        owner.close()
        self.whole = self.target.path.read_bytes()

    def reset(self, way: str) -> None:
        shutil.rmtree(self.store)
        shutil.rmtree(self.target.state / "scratch", ignore_errors=True)
        shutil.copytree(self.first, self.store)
        for path in self.app.iterdir():
            path.unlink()
        if way in ("backup", "to", "live"):
            self.target.path.write_bytes(self.whole)
        if way in ("missing", "malformed"):
            self.target.wal.write_bytes(b"stale")
        if way == "live":
            owner = apsw.Connection(str(self.target.path))
            owner.execute("DELETE FROM t WHERE id > 50")
            owner.close()
        if way == "malformed":
            self.target.path.write_bytes(b"\0" * 5000)

    def run(self, way: str) -> ActionError | None:
        options: dict[str, Any] = {
            "backup": {},
            "to": {"to": str(self.app / "new.db")},
            "missing": {"in_place": True, "application_stopped": True},
            "malformed": {"in_place": True, "application_stopped": True},
            "live": {"in_place": True},
        }[way]
        try:
            run_here("backup" if way == "backup" else "restore", work_on(self.target, self.raw, **options))
        except ActionError as error:
            return error
        except OSError as error:
            return translate_io_error(error)
        return None

    def check(self, way: str, error: ActionError | None, *, may_stay: bool = False) -> None:
        """`may_stay`: names that could not be removed, since removing is what failed."""
        if error is not None:
            assert str(error)
            assert "\n" not in str(error)
            assert "[Errno" not in str(error)
            assert error.next_step
        if way == "backup":
            self._check_store(error)
        elif way == "live":
            self._check_live(error)
        else:
            self._check_app(way, error)
        scratch = self.target.state / "scratch"
        partials = [path for folder in (self.app, self.store, scratch) for path in folder.glob(".*.partial-*")]
        assert may_stay or not partials

    def _check_store(self, error: ActionError | None) -> None:
        backups = find_backups(self.target)
        verified = [backup for backup in backups if backup.state == "verified"]
        assert len(verified) == (2 if error is None else 1), error
        for backup in verified:
            with open_immutable(Path(backup.reference)) as copy:
                assert copy.execute("SELECT count(*) FROM t").get == ROWS
        assert len(backups) == len(verified) or "unverified: delete it" in str(error)

    def _check_live(self, error: ActionError | None) -> None:
        live = apsw.Connection(str(self.target.path))
        assert live.execute("PRAGMA integrity_check").get == "ok"
        assert live.execute("SELECT count(*) FROM t").get == (ROWS if error is None else 50)
        assert live.pragma("journal_mode") == "wal"
        live.close()
        backups = find_backups(self.target)
        assert error is not None or len(backups) == 2
        assert all(backup.state == "verified" for backup in backups) or "unverified: delete it" in str(error)

    def _check_app(self, way: str, error: ActionError | None) -> None:
        names = sorted(path.name for path in self.app.glob("[!.]*"))
        destination = self.app / "new.db" if way == "to" else self.target.path
        if error is None:
            assert not destination.with_name(destination.name + "-wal").exists()
            with open_immutable(destination) as copy:
                assert copy.execute("PRAGMA integrity_check").get == "ok"
                assert copy.execute("SELECT count(*) FROM t").get == ROWS
            assert self.target.path.stat().st_nlink == 1
        else:
            assert (
                names == {"to": ["jobs.db"], "missing": ["jobs.db-wal"], "malformed": ["jobs.db", "jobs.db-wal"]}[way]
            )
        if way == "malformed" and error is not None:
            assert self.target.path.read_bytes() == b"\0" * 5000


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ERRNOS)
def test_one_failing_call_is_survived_or_undone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, way: str, name: str
) -> None:
    """Every call once, with one errno each in turn."""
    number = 1
    while True:
        code = ERRNOS[name][number % len(ERRNOS[name])]
        scene.reset(way)
        with monkeypatch.context() as patched:
            faults = FaultyCalls(patched, name).fail(code, number)
            error = scene.run(way)
        scene.check(way, error, may_stay=name == "unlink")
        if not faults.happened:
            assert error is None
            return
        number += 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("code", ERRNOS["link"], ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("names", [("link",), ("renameat2",), ("link", "renameat2")], ids="+".join)
def test_where_a_file_system_lacks_links_or_exchanges_all_of_it_works(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, way: str, names: tuple[str, ...], code: int
) -> None:
    scene.reset(way)
    with monkeypatch.context() as patched:
        FaultyCalls(patched, *names).fail(code, 1, always=True)
        error = scene.run(way)
    assert error is None, error
    scene.check(way, error)


@pytest.mark.parametrize("way", WAYS)
def test_where_no_name_can_be_given_at_all_it_is_undone_and_said(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    scene.reset(way)
    with monkeypatch.context() as patched:
        FaultyCalls(patched, "link", "renameat2", "rename", "replace").fail(errno.EPERM, 1, always=True)
        error = scene.run(way)
    assert error is not None
    scene.check(way, error)
    words = "everything is as it was" if way in ("missing", "malformed") else "nothing was published"
    assert words in str(error)


def test_a_file_that_appears_meanwhile_is_never_overwritten(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each of the three ways: another process makes the name between the look and the rename."""
    for missing in ((), ("renameat2",), ("renameat2", "link")):
        source, mine = scene.app / "source", scene.app / "mine"
        source.write_text("ours")
        mine.write_text("theirs")
        with monkeypatch.context() as patched:
            FaultyCalls(patched, *missing).fail(errno.EPERM, 1, always=True)
            with pytest.raises(FileExistsError):
                no_overwrite.move_without_overwrite(source, mine)
        assert (source.read_text(), mine.read_text()) == ("ours", "theirs")


def test_an_empty_placeholder_of_a_killed_run_is_removed_by_the_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without links and exchanges a kill between the placeholder and the rename leaves an empty file."""
    scene.reset("backup")
    name = "queue_backup_jobs_20200101T000000_000000Z.db"
    partial = scene.store / f".{name}.partial-{os.uname().nodename}@999999999:1"
    partial.write_bytes(b"half")
    (scene.store / name).touch()
    assert scene.run("backup") is None
    assert not (scene.store / name).exists()
    scene.check("backup", None)


# --- the kernel itself says no


def _strace(target: Target, inject: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=none", "-e", f"inject={inject}"]
    ours = [sys.executable, "-m", "exporter.commands", *words, "--state", str(target.state)]
    return subprocess.run([*command, *ours], capture_output=True, text=True, check=False)


@pytest.fixture
def strace() -> Callable[..., subprocess.CompletedProcess[str]]:
    probe = shutil.which("strace") and subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True)
    if not probe or probe.returncode != 0:
        pytest.skip("strace cannot trace here")
    return _strace


@pytest.mark.parametrize("inject", ["link,linkat:error=EPERM", "renameat2,link,linkat:error=EOPNOTSUPP"])
@pytest.mark.parametrize("way", ["backup", "malformed"])
def test_the_command_works_where_the_kernel_refuses_links(
    scene: Scene, strace: Callable[..., subprocess.CompletedProcess[str]], way: str, inject: str
) -> None:
    scene.reset(way)
    words = ("backup", str(scene.target.path), "--to", str(scene.store))
    if way != "backup":
        words = ("restore", str(scene.target.path), "--from", str(scene.store), "--in-place", "--application-stopped")
    done = strace(scene.target, inject, *words)
    assert done.returncode == 0, done.stderr
    scene.check(way, None)


@pytest.mark.parametrize("inject", ["fsync:error=EIO", "read:error=EIO"])
def test_an_error_that_names_no_file_is_said_with_its_file(scene: Scene, inject: str, tmp_path: Path) -> None:
    """The system names a file only for a call that had its name."""
    scene.reset("missing")
    backup = next(scene.store.glob("*.db"))
    call = inject.partition(":")[0]
    path = backup if call == "read" else scene.app
    if not shutil.which("strace") or subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode:
        pytest.skip("strace cannot trace here")
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}"]
    trace += ["-P", str(path)] if call == "read" else []
    ours = [sys.executable, "-m", "exporter.commands", "restore", str(scene.target.path), "--from", str(scene.store)]
    run = subprocess.run(
        [*trace, *ours, "--in-place", "--application-stopped", "--state", str(scene.target.state)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1, run.stderr
    assert f"Input/output error: {path}" in run.stderr
