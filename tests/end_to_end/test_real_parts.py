"""The fixtures for real components: what is missing or does not start is said, and nothing is left running."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.patience import LONGEST_WAIT
from tests.support.real import real_parts
from tests.support.real.real_parts import RealPartError, free_addresses, require, running
from tests.support.real.recover_shell import require_recovery

INSTALLER = Path(real_parts.__file__).parent / "install.sh"
NOTHING = "global: {}\n"


def nowhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(real_parts, "UNPACKED", folder)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("QK_REQUIRE_REAL", raising=False)


def test_a_missing_component_skips_the_test_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere(monkeypatch, tmp_path)
    with pytest.raises(pytest.skip.Exception, match="run `make setup`"):
        require("prometheus")


@pytest.mark.parametrize(("name", "value"), [("QK_REQUIRE_REAL", "1"), ("CI", "true")])
def test_a_missing_component_fails_the_test_where_it_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    nowhere(monkeypatch, tmp_path)
    monkeypatch.setenv(name, value)
    with pytest.raises(pytest.fail.Exception, match="run `make setup`"):
        require("prometheus")


@pytest.mark.parametrize(("variable", "outcome"), [("NOTHING", pytest.skip.Exception), ("CI", pytest.fail.Exception)])
def test_without_recovery_of_sqlite_nothing_is_silently_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, outcome: type[BaseException]
) -> None:
    nowhere(monkeypatch, tmp_path)
    monkeypatch.setenv(variable, "true")
    with pytest.raises(outcome, match="sqlite3 is neither on PATH"):
        require_recovery()


def test_an_unpacked_component_is_found_without_being_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere(monkeypatch, tmp_path)
    monkeypatch.setattr(real_parts, "UNPACKED", tmp_path / "unpacked")
    program = tmp_path / "unpacked" / "promtool"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert require("promtool") == program


def installed(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installer on a machine without apt and without the components."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname"):
        (tools / tool).symlink_to(next(p for d in os.environ["PATH"].split(":") if (p := Path(d) / tool).exists()))
    clean = {"PATH": str(tools), "QK_REAL_DIR": str(tmp_path / "real"), **environment}
    return subprocess.run([INSTALLER], env=clean, check=False, capture_output=True, text=True, timeout=LONGEST_WAIT)


def test_the_installer_names_what_is_missing_and_lets_the_rest_go_on(tmp_path: Path) -> None:
    result = installed(tmp_path)
    assert result.returncode == 0, result.stderr
    for program in ("prometheus", "promtool", "prometheus-alertmanager", "amtool", "liteque"):
        assert f"real parts: {program} is MISSING" in result.stdout


def test_the_installer_fails_where_the_components_are_required(tmp_path: Path) -> None:
    assert installed(tmp_path, CI="true").returncode == 1


@pytest.mark.real
def test_a_configuration_that_prometheus_refuses_ends_at_once_with_its_own_words(tmp_path: Path) -> None:
    require("prometheus")
    with (
        pytest.raises(RealPartError, match="field no_such_key not found"),
        running(tmp_path, free_addresses(), "no_such_key: 1\n"),
    ):
        pytest.fail("it started")


@pytest.mark.real
def test_a_pair_is_ended_when_the_test_fails(tmp_path: Path) -> None:
    require("prometheus")
    configuration = "route: {receiver: a}\nreceivers: [{name: a}]\n"
    with pytest.raises(ZeroDivisionError), running(tmp_path, free_addresses(), NOTHING, configuration) as pair:
        pair.wait(lambda: 1 // len(pair.alerts()), "the test's own mistake")
    ours = [each for each in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in read(each)]
    assert ours == []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended while we looked


@pytest.mark.real
def test_a_bad_query_is_answered_in_prometheus_own_words(tmp_path: Path) -> None:
    require("prometheus")
    with running(tmp_path, free_addresses(), NOTHING) as pair:
        assert pair.value("1 + 1") == 2
        assert pair.value("nothing_here") is None
        with pytest.raises(RealPartError, match="parse error"):
            pair.query("sum(")
