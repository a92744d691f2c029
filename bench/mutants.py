"""Would the tests notice? Changes one thing at a time in what decides, and runs the tests that are meant to see it.

    python bench/mutants.py [--only actions/policy/order.py] [--jobs 2] [--list]

A mutant has one comparison, constant, operator, condition, call or result changed; it is killed when a test fails. Each is
tried in a fork that imports the changed text instead of the file's, so nothing of the checkout changes. Prints the share
that was killed, and each survivor with its line.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

# What every fork would import again; nothing of our own, since that is what changes.
import apsw  # noqa: F401
import click  # noqa: F401
import httpx  # noqa: F401
import hypothesis  # noqa: F401
import pydantic  # noqa: F401
import pytest

ROOT = Path(__file__).resolve().parent.parent
POLICY, READINGS = "tests/test_actions_policy.py", "tests/test_actions_policy_readings.py"
# What decides -> the tests that are meant to see a change in it.
SEEN_BY: dict[str, tuple[str, ...]] = {
    "actions/door/guard.py": ("tests/test_actions_guard.py",),
    "actions/policy/admission.py": ("tests/test_actions_policy_episodes.py",),
    "actions/policy/check_choice.py": ("tests/test_actions_policy_vacuum.py",),
    "actions/policy/effect.py": (POLICY, READINGS, "tests/test_actions_policy_suspension.py"),
    "actions/policy/elapsed.py": ("tests/test_actions_policy_episodes.py",),
    "actions/policy/episodes.py": ("tests/test_actions_policy_episodes.py",),
    "actions/policy/matchers.py": (POLICY,),
    "actions/policy/order.py": ("tests/test_actions_policy_order.py",),
    "actions/policy/readings.py": (READINGS,),
    "actions/policy/rules.py": (POLICY, READINGS, "tests/test_actions_policy_order.py"),
    "actions/policy/schedules.py": ("tests/test_actions_policy_schedules.py",),
    "actions/policy/simulate.py": ("tests/test_actions_policy_simulate.py",),
    "actions/policy/suspension.py": ("tests/test_actions_policy_suspension.py",),
    "actions/policy/vacuum_choice.py": ("tests/test_actions_policy_vacuum.py",),
    "actions/policy/windows.py": ("tests/test_actions_windows.py",),
    "actions/run/condition.py": (POLICY, READINGS),
    "actions/writing/retention.py": ("tests/test_actions_retention.py",),
}
PATIENCE = 240.0
QUIETLY = ("-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One change of one file: the whole changed text, and what was changed where."""

    file: str
    line: int
    what: str
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="this file alone; may be repeated")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    given = parser.parse_args()
    os.chdir(ROOT)
    files = given.only or list(SEEN_BY)
    made = [mutant for file in files for mutant in mutants(file)]
    if given.list:
        for mutant in made:
            print(f"{mutant.file}:{mutant.line}: {mutant.what}")
        return
    unchanged = [Mutant(file, 0, "unchanged", (ROOT / file).read_text()) for file in files]
    failing = [mutant.file for mutant, killed in judged(unchanged, given.jobs) if killed]
    if failing:
        sys.exit(f"the tests fail without any change: {' '.join(failing)}")
    report(dict(judged(made, given.jobs)))


def judged(made: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant, and whether it was killed; `jobs` at a time."""
    waiting, running = list(reversed(made)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[begin(mutant)] = (mutant, time.monotonic() + PATIENCE)
        for pid, (mutant, deadline) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and time.monotonic() > deadline:
                os.kill(pid, 9)
                ended, status = os.waitpid(pid, 0)
            if ended:
                del running[pid]
                yield mutant, status != 0
        time.sleep(0.01)


def begin(mutant: Mutant) -> int:
    """A fork in which the tests run on the changed text; it ends with 0 when they pass."""
    pid = os.fork()
    if pid:
        return pid
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.meta_path.insert(0, Changed(mutant))
        os._exit(int(pytest.main([*QUIETLY, *SEEN_BY[mutant.file]])))
    finally:
        os._exit(1)  # a change that breaks the very import is killed


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another text."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._module = mutant.file.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self._module else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.text, self._mutant.file, "exec"), module.__dict__)


def report(found: dict[Mutant, bool]) -> None:
    for mutant, killed in found.items():
        if not killed:
            print(f"survived: {mutant.file}:{mutant.line}: {mutant.what}")
    all_of, killed_of = (
        Counter(mutant.file for mutant in found),
        Counter(m.file for m, killed in found.items() if killed),
    )
    for file, number in sorted(all_of.items()):
        print(f"{file}: {killed_of[file]} of {number}")
    print(f"killed {sum(found.values())} of {len(found)}: {100 * sum(found.values()) / max(1, len(found)):.1f} %")


def mutants(file: str) -> Iterator[Mutant]:
    """Every mutant of one file."""
    tree = ast.parse((ROOT / file).read_text())
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    # `frozen=True, slots=True` decides nothing
    left_out = {id(part) for one in classes for decorator in one.decorator_list for part in ast.walk(decorator)}
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in left_out:
            continue
        for number, (what, _) in enumerate(changes(node)):
            changed = copy.deepcopy(tree)
            _, apply = list(changes(list(ast.walk(changed))[place]))[number]
            apply()
            yield Mutant(file, getattr(node, "lineno", 0), what, ast.unparse(ast.fix_missing_locations(changed)))


Changes = Iterator[tuple[str, Callable[[], None]]]


def changes(node: ast.AST) -> Changes:
    """(what is changed, how) of one node. Words for people are no decision: they stay as they are."""
    for kinds, change in _CHANGES:
        if isinstance(node, kinds):
            yield from change(node)


def _compared(node: ast.Compare) -> Changes:
    for number, operator in enumerate(node.ops):
        for other in _COMPARED.get(type(operator), ()):
            yield f"{ast.unparse(node)}: {other.__name__}", lambda n=number, o=other: node.ops.__setitem__(n, o())


def _counted(node: ast.BinOp) -> Changes:
    other = _COUNTED.get(type(node.op))
    if other is not None and not _is_text(node.left) and not _is_text(node.right):
        yield f"{ast.unparse(node)}: {other.__name__}", lambda: setattr(node, "op", other())


def _joined(node: ast.BoolOp) -> Changes:
    other = ast.Or if isinstance(node.op, ast.And) else ast.And
    yield f"{ast.unparse(node)}: {other.__name__}", lambda: setattr(node, "op", other())


def _negated(node: ast.UnaryOp) -> Changes:
    if isinstance(node.op, ast.Not):
        double = ast.UnaryOp(ast.Not(), node.operand)
        yield f"{ast.unparse(node)}: without not", lambda: setattr(node, "operand", double)
    if isinstance(node.op, ast.USub):
        yield f"{ast.unparse(node)}: without minus", lambda: setattr(node, "op", ast.UAdd())


def _constant(node: ast.Constant) -> Changes:
    if isinstance(node.value, bool):
        yield f"{node.value}: {not node.value}", lambda: setattr(node, "value", not node.value)
    elif isinstance(node.value, int | float):
        yield f"{node.value}: {node.value + 1}", lambda: setattr(node, "value", node.value + 1)


def _decided(node: ast.If | ast.IfExp | ast.While) -> Changes:
    for word in (True, False):
        yield f"if {ast.unparse(node.test)}: {word}", lambda w=word: setattr(node, "test", ast.Constant(w))


def _called(node: ast.Call) -> Changes:
    if isinstance(node.func, ast.Name) and node.func.id in _CALLED:
        other = _CALLED[node.func.id]
        yield f"{ast.unparse(node)}: {other}", lambda: setattr(node, "func", ast.Name(other, ast.Load()))


def _returned(node: ast.Return) -> Changes:
    if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield f"{ast.unparse(node)}: None", lambda: setattr(node, "value", ast.Constant(None))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


_CHANGES: tuple[tuple[object, Callable[..., Changes]], ...] = (
    (ast.Compare, _compared),
    (ast.BinOp, _counted),
    (ast.BoolOp, _joined),
    (ast.UnaryOp, _negated),
    (ast.Constant, _constant),
    ((ast.If, ast.IfExp, ast.While), _decided),
    (ast.Call, _called),
    (ast.Return, _returned),
)


if __name__ == "__main__":
    main()
