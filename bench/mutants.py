"""Would the tests notice? Changes one thing at a time in what decides, and runs the tests that are meant to see it.

    python bench/mutants.py [--only actions/policy/scheduling.py] [--jobs 2] [--list] [--again]

A mutant (`mutations.py`) is killed when a test fails on it. The tests of a file are collected once; each mutant is a fork
of that process in which one function got other code, and a change outside of functions is a fork that imports the changed
text. Nothing of the checkout changes. Prints the share that was killed and each survivor with its line, and fails when
less than 90 % of the mutants of a file were. What is known of a file is kept in `.mutants.json` until it or its tests change.
"""

import argparse
import hashlib
import importlib.abc
import importlib.util
import json
import os
import resource
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

# What every fork would import again; nothing of our own, since that is what changes.
import apsw  # noqa: F401
import click  # noqa: F401
import httpx  # noqa: F401
import pydantic  # noqa: F401
import pytest
from hypothesis import Phase, settings
from mutations import Mutant, mutants

ROOT = Path(__file__).resolve().parent.parent
KNOWN = ROOT / ".mutants.json"
POLICY, READINGS = "tests/actions/policy/test_rules.py", "tests/actions/policy/test_effect.py"
EPISODES, SUSPENSION = "tests/actions/policy/test_episodes.py", "tests/actions/policy/test_suspension.py"
# What decides -> the tests that are meant to see a change in it. All are pure: no process, no browser, no database.
SEEN_BY: dict[str, tuple[str, ...]] = {
    "actions/runner/guards.py": ("tests/actions/runner/test_guards.py",),
    "actions/policy/cooldown.py": (EPISODES,),
    "actions/policy/alerts.py": (POLICY,),
    "actions/policy/effect.py": (POLICY, READINGS, SUSPENSION),
    "actions/policy/episodes.py": (EPISODES,),
    "actions/policy/matchers.py": (POLICY,),
    "actions/policy/scheduling.py": ("tests/actions/policy/test_scheduling.py",),
    "actions/policy/rules.py": (POLICY, READINGS, "tests/actions/policy/test_scheduling.py"),
    "actions/policy/schedules.py": ("tests/actions/policy/test_schedules.py", READINGS),
    "actions/policy/simulate.py": ("tests/actions/policy/test_simulate.py",),
    "actions/policy/suspension.py": (SUSPENSION,),
    "actions/policy/vacuum_plan.py": ("tests/actions/policy/test_vacuum_plan.py",),
    "actions/policy/windows.py": ("tests/actions/policy/test_windows.py",),
    "actions/model/condition.py": (POLICY, READINGS),
    "actions/backups/retention.py": ("tests/actions/backups/test_retention.py",),
}
ENOUGH = 0.9
# Survivors that no test can kill, since nothing becomes different; they count as survivors all the same.
EQUAL = {
    "actions/policy/schedules.py: 0.0: 1.0": "catch_up below ON_TIME: the larger of the two counts",
    "actions/policy/simulate.py: False: True": "a run's `blocked` before it begins: set at its start, read after it",
    "actions/policy/suspension.py: 0.0: 1.0": "`at` of a standing without a condition: nothing looks at it",
    "actions/policy/suspension.py: False: True": "`blocked` of a standing without a condition: the same",
    "actions/policy/windows.py: if window.zone == 'UTC': False": "ZoneInfo('UTC') is UTC too, where time zones are installed",
    "actions/policy/windows.py: window.begins < window.ends: LtE": "a window that ends as it begins is a configuration error",
    "actions/policy/windows.py: 2 * DAY + 1: Sub": "minutes searched: every zone repeats itself within a day and an hour",
    "actions/policy/windows.py: 1: 2": "the same",
    "actions/policy/windows.py: 2: 3": "the same",
    "actions/model/condition.py: True: False": "strict: a sample has as many labels as its metric, always",
}
# Bounds of one mutant: a loop without an end or a heap without one is a failure too. CPU seconds, bytes.
PATIENCE, ROOM = 20, 4 * 2**30
QUIETLY = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning",
           "--hypothesis-profile=mutants")  # fmt: skip
Begin = Callable[[Mutant], int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="this file alone; may be repeated")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    parser.add_argument("--again", action="store_true", help="forget what is known")
    given = parser.parse_args()
    os.chdir(ROOT)
    files = given.only or list(SEEN_BY)
    if given.list:
        print(*(mutant for file in files for mutant in mutants(file)), sep="\n")
        return
    # the same examples each time, none of them made smaller: that a test fails is all we want to know
    settings.register_profile(
        "mutants", derandomize=True, deadline=None, database=None, phases=[Phase.explicit, Phase.generate]
    )
    known = json.loads(KNOWN.read_text()) if KNOWN.exists() and not given.again else {}
    for file in files:
        if known.get(file, {}).get("of") != of(file):
            known[file] = {"of": of(file), **judge(file, given.jobs)}
            KNOWN.write_text(json.dumps(known, indent=1))
    sys.exit(report({file: known[file] for file in files}))


def of(file: str) -> str:
    """What a judgement holds for: the file, its tests, and how mutants are made."""
    texts = (Path(name).read_bytes() for name in (file, *SEEN_BY[file], "bench/mutations.py"))
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def judge(file: str, jobs: int) -> dict[str, object]:
    """How many mutants of this file there are, and which survived."""
    begun = time.monotonic()
    unchanged = Mutant(file, 0, "unchanged", Path(file).read_text())
    if any(killed for _, killed in judged([unchanged], 1, afresh)):
        sys.exit(f"the tests of {file} fail without any change")
    made = list(mutants(file))
    outside = judged([one for one in made if not one.function], jobs, afresh)
    survived = [str(one) for one, killed in outside if not killed]
    inside = [one for one in made if one.function]
    if inside:
        same = replace(unchanged, function=inside[0].function)
        found = survivors_inside(file, [same, *inside], jobs)
        if str(same) not in found:
            sys.exit(f"the tests of {file} fail on the same code put in again")
        survived += [one for one in found if one != str(same)]
    return {"mutants": len(made), "survived": survived, "seconds": round(time.monotonic() - begun, 1)}


def judged(made: list[Mutant], jobs: int, begin: Begin) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant, and whether it was killed; `jobs` at a time."""
    waiting, running = list(reversed(made)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[begin(mutant)] = mutant
        pid, status = os.wait()
        yield running.pop(pid), status != 0


def child(work: Callable[[], int]) -> int:
    """The process id of a fork that does this, silently and within bounds, and ends with what it returns."""
    pid = os.fork()
    if pid:
        return pid
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
        resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
        os._exit(work())
    finally:
        os._exit(1)  # a change that breaks the very import is killed


def afresh(mutant: Mutant) -> int:
    """A fork that imports the changed text instead of the file's."""

    def work() -> int:
        sys.meta_path.insert(0, Changed(mutant))
        return int(pytest.main([*QUIETLY, *SEEN_BY[mutant.file]]))

    return child(work)


def survivors_inside(file: str, made: list[Mutant], jobs: int) -> list[str]:
    """Of changes inside of functions: judged in one process that has collected the tests."""
    reading, writing = os.pipe()
    collecting = os.fork()
    if not collecting:
        os.close(reading)
        with os.fdopen(writing, "w") as answer, open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            warm = Warm(made, jobs)
            pytest.main([*QUIETLY, *SEEN_BY[file]], plugins=[warm])
            json.dump(warm.survived, answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = json.load(answer)
    os.waitpid(collecting, 0)
    if found is None:
        sys.exit(f"the tests of {file} could not be collected")
    return list(found)


class Warm:
    """Of pytest: instead of running what was collected once, runs it once for each mutant."""

    def __init__(self, made: list[Mutant], jobs: int) -> None:
        self._made, self._jobs = made, jobs
        self.survived: list[str] | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        def begin(mutant: Mutant) -> int:
            return child(lambda: changed_and_run(mutant))

        def changed_and_run(mutant: Mutant) -> int:
            module = sys.modules[mutant.file.removesuffix(".py").replace("/", ".")]
            function(module, mutant.function).__code__ = code(mutant)
            session.config.pluginmanager.unregister(self)
            try:
                session.config.hook.pytest_runtestloop(session=session)
            except (session.Failed, session.Interrupted):
                return 1
            return int(session.testsfailed > 0)

        self.survived = [str(one) for one, killed in judged(self._made, self._jobs, begin) if not killed]
        session.items.clear()
        return (yield)


def function(module: types.ModuleType, name: str) -> types.FunctionType:
    """The function or method of this qualified name, as everybody who imported it has it."""
    found: object = module
    for part in name.split("."):
        found = vars(found)[part]
    found = found.fget if isinstance(found, property) else found
    assert isinstance(found, types.FunctionType), name
    return found


def code(mutant: Mutant) -> types.CodeType:
    """The changed code of the one function that is changed."""
    waiting = [compile(mutant.text, mutant.file, "exec")]
    while waiting:
        one = waiting.pop()
        if one.co_qualname == mutant.function:
            return one
        waiting += [inner for inner in one.co_consts if isinstance(inner, types.CodeType)]
    raise LookupError(mutant.function)


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another text."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._module = mutant.file.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self._module else None

    def exec_module(self, module: types.ModuleType) -> None:
        exec(compile(self._mutant.text, self._mutant.file, "exec"), module.__dict__)


def report(known: dict[str, dict[str, object]]) -> int:
    """Prints it; 1 when not enough were killed of some file."""
    every, alive, poor = 0, 0, 0
    for file, found in known.items():
        made, survived = int(str(found["mutants"])), list(found["survived"])  # type: ignore[call-overload]
        every, alive = every + made, alive + len(survived)
        poor += len(survived) > (1 - ENOUGH) * made
        print(f"{file}: {made - len(survived)} of {made} killed in {found['seconds']} s")
        for one in survived:
            path, _, what = one.split(":", 2)
            why = EQUAL.get(f"{path}:{what}")
            print(f"  survived: {one}" + (f" ({why})" if why else ""))
    print(f"killed {every - alive} of {every}: {100 * (every - alive) / max(1, every):.1f} %")
    return int(poor > 0)


if __name__ == "__main__":
    main()
