"""Every single change of a file that its tests should notice: one comparison, constant, operator, condition, call,
statement or result at a time. Words for people are no decision: they stay as they are.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
    """One change of one file: the whole changed text, and what was changed where.

    `function`: the qualified name of the function or method whose body holds the change; empty outside of all.
    """

    file: str
    line: int
    what: str
    text: str
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def mutants(file: str) -> Iterator[Mutant]:
    """Every mutant of one file."""
    tree = ast.parse(Path(file).read_text())
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    # `frozen=True, slots=True` decides nothing
    left_out = {id(part) for one in classes for decorator in one.decorator_list for part in ast.walk(decorator)}
    inside = dict(_inside(tree.body))
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in left_out:
            continue
        for number, (what, _) in enumerate(_changes(node)):
            changed = copy.deepcopy(tree)
            _, apply = list(_changes(list(ast.walk(changed))[place]))[number]
            apply()
            text = ast.unparse(ast.fix_missing_locations(changed))
            yield Mutant(file, getattr(node, "lineno", 0), what, text, inside.get(id(node), ""))


def _inside(body: list[ast.stmt], outer: str = "") -> Iterator[tuple[int, str]]:
    """(id of a node, the function whose body it is in)."""
    for one in body:
        if isinstance(one, ast.ClassDef):
            yield from _inside(one.body, f"{outer}{one.name}.")
        elif isinstance(one, ast.FunctionDef):
            yield from ((id(node), f"{outer}{one.name}") for part in one.body for node in ast.walk(part))


Changes = Iterator[tuple[str, Callable[[], None]]]


def _changes(node: ast.AST) -> Changes:
    """(what is changed, how) of one node."""
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


def _stated(node: ast.Expr) -> Changes:
    """A statement that is left out; a generator stays one."""
    if isinstance(node.value, ast.Yield | ast.YieldFrom):
        nothing = ast.YieldFrom(ast.Tuple([], ast.Load()))
        yield f"without: {ast.unparse(node)}", lambda: setattr(node, "value", nothing)
    elif isinstance(node.value, ast.Call):
        yield f"without: {ast.unparse(node)}", lambda: setattr(node, "value", ast.Constant(None))


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
    (ast.Expr, _stated),
)
