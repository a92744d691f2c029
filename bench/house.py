"""Measures how easy the tree is to find one's way in: names, sizes, folders, imports.

    python bench/house.py [--json] [--tree DIR]

Standard library only; DIR is another checkout. The product is `collectors`, `actions`, `exporter` and, where it exists,
`queuekeeper`. Everything is read from the syntax trees, nothing is imported. How each figure is counted:

* modules: Python files of the product that hold a statement besides a docstring.
* import circles: groups of modules that reach each other by imports which run when a module is loaded (so not those
  inside a function or under `TYPE_CHECKING`). `from package import module` imports the module.
* arrows back up: imports, also inside functions, from a lower to a higher line of a layers contract in `.importlinter`,
  or between two rooms of one line that are separated by `|`.
* modules reached: the share of all modules that a module loads by imports, directly or not; the median over the modules.
  Modules with one importer: those that exactly one other module imports.
* function lines: from `def` (or the first decorator) to the last line, docstring included; methods, nested functions and
  dunders too.
* words of a function's name: split at underscores, leading ones ignored; dunders are left out. Click's command functions
  (any decorator that ends in `command` or `group`) count. Protocol words (`PROTOCOL_WORDS`) count as one-word names.
* class names twice: names of classes that are defined in two or more modules; a leading underscore is ignored.
* vague locals: lines that bind one of `VAGUE` (assignment, loop, `with`, `except`, walrus, comprehension, parameter), for
  each 1,000 lines.
* vague people: lines with one of `PEOPLE` as a whole word, any case, for each 1,000 lines.
* biggest folder: Python files directly in one folder, `__init__.py` left out; once in the product, once with tests,
  bench and grafana.
* small modules: share under 40 lines of the modules that are neither `__init__.py` nor empty; big ones have over 350.
"""

import argparse
import ast
import configparser
import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("collectors", "actions", "exporter", "queuekeeper")
OTHERS = ("tests", "bench", "grafana")
VAGUE = {"found", "one", "said", "told", "kept", "left", "taken"}
PEOPLE = re.compile(r"\b(nobody|somebody|whoever|whatever)\b", re.IGNORECASE)
# One-word names that other modules may call: each is the word of a protocol (of collectors, actions, files, processes).
PROTOCOL_WORDS = (
    "close", "collect", "load", "main", "plan", "read", "render", "run", "samples", "send", "start", "stop", "write",
)  # fmt: skip
SMALL, BIG = 40, 350


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file and its syntax tree; `name` is the dotted path it is imported by."""

    path: str
    name: str
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether the file is an `__init__.py`."""
        return self.path.endswith("__init__.py")

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        return self.text.count("\n")

    @property
    def is_empty(self) -> bool:
        """Whether nothing but a docstring is in it."""
        return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in self.tree.body)


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method: where it is, and what is counted of it."""

    module: str
    name: str
    lines: int
    is_public: bool
    is_method: bool
    is_command: bool

    @property
    def words(self) -> int:
        """Words of its name."""
        return len([word for word in self.name.split("_") if word])


@dataclass(frozen=True, slots=True)
class House:
    """The measured table; lists name what is wrong, so that it can be mended."""

    modules: int
    import_circles: list[list[str]]
    arrows_back: list[str]
    reached_percent: float
    one_importer: int
    function_median: float
    function_p90: float
    function_max: int
    words_per_name: float
    one_word_percent: float
    protocol_word_percent: float
    unlisted_public_words: list[str]
    classes: int
    classes_twice: dict[str, list[str]]
    vague_locals: float
    vague_local_lines: list[str]
    vague_people: float
    vague_people_lines: list[str]
    biggest_folder: tuple[str, int]
    biggest_folder_of_all: tuple[str, int]
    small_percent: float
    small_modules: list[str]
    big_modules: list[str]


def read_modules(tree: Path, packages: tuple[str, ...] = PRODUCT) -> list[Module]:
    """Parses every Python file of the packages that exist below `tree`."""
    files = [
        file for name in packages for file in sorted((tree / name).rglob("*.py")) if "node_modules" not in file.parts
    ]
    modules = []
    for file in files:
        path, text = file.relative_to(tree), file.read_text()
        dotted = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        modules.append(Module(str(path), dotted, text, ast.parse(text)))
    return modules


def functions_of(module: Module) -> Iterator[Function]:
    """Yields every function, methods, dunders and nested functions included."""
    parents = {child: node for node in ast.walk(module.tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        decorators = [ast.unparse(each).partition("(")[0] for each in node.decorator_list]
        yield Function(
            module=module.path,
            name=node.name,
            lines=(node.end_lineno or first) - first + 1,
            is_public=not node.name.startswith("_")
            and not isinstance(parents[node], ast.FunctionDef | ast.AsyncFunctionDef),
            is_method=isinstance(parents[node], ast.ClassDef),
            is_command=any(name.endswith(("command", "group")) for name in decorators),
        )


def class_places(modules: list[Module]) -> dict[str, list[str]]:
    """Maps each class name, without its leading underscore, to the modules that define it."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        classes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
        for name in sorted({node.name.lstrip("_") for node in classes}):
            places[name].append(module.path)
    return places


def vague_bindings(module: Module) -> list[str]:
    """Lists the lines that bind a local or parameter of a name that says nothing."""
    lines = {}
    for node in ast.walk(module.tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                if name in VAGUE:
                    lines[node.lineno] = name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                if name in VAGUE:
                    lines[node.lineno] = name
    return [f"{module.path}:{line} {name}" for line, name in sorted(lines.items())]


def people_lines(module: Module) -> list[str]:
    """Lists the lines that speak of nobody or somebody instead of naming the process, reader or caller."""
    return [
        f"{module.path}:{number} {match[0]}"
        for number, line in enumerate(module.text.splitlines(), 1)
        if (match := PEOPLE.search(line))
    ]


def imports_of(module: Module, known: set[str], *, at_load_only: bool) -> set[str]:
    """Names the modules of the product that this one imports."""
    nodes = _nodes_at_load(module.tree) if at_load_only else ast.walk(module.tree)
    imported: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                imported.add(whole if whole in known else node.module)
    return (imported & known) - {module.name}


def _nodes_at_load(node: ast.AST) -> Iterator[ast.AST]:
    """Walks what runs when the module is loaded: not into functions, not under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _nodes_at_load(child)


def import_circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Finds the groups of modules that reach each other (Kosaraju's two passes over the graph)."""
    order: list[str] = []
    seen: set[str] = set()
    for start in graph:
        _visit(start, graph, seen, order)
    backwards: dict[str, set[str]] = {name: set() for name in graph}
    for name, imported in graph.items():
        for other in imported:
            backwards[other].add(name)
    circles, seen = [], set()
    for start in reversed(order):
        group: list[str] = []
        _visit(start, backwards, seen, group)
        if len(group) > 1:
            circles.append(sorted(group))
    return sorted(circles)


def _visit(start: str, graph: dict[str, set[str]], seen: set[str], order: list[str]) -> None:
    """Appends what can be reached from `start` and was not seen before, deepest first."""
    if start in seen:
        return
    seen.add(start)
    stack = [(start, iter(sorted(graph[start])))]
    while stack:
        following = next((each for each in stack[-1][1] if each not in seen), None)
        if following is None:
            order.append(stack.pop()[0])
        else:
            seen.add(following)
            stack.append((following, iter(sorted(graph[following]))))


def reached_percent(graph: dict[str, set[str]]) -> float:
    """Returns the median share of the modules that a module loads, in percent."""
    counts = []
    for name in graph:
        seen: set[str] = set()
        _visit(name, graph, seen, [])
        counts.append(len(seen) - 1)
    return 100 * statistics.median(counts) / len(graph)


def layers_of(tree: Path) -> list[list[list[str]]]:
    """Reads the layers contracts of `.importlinter`, each from the top line to the bottom one, rooms of a line apart."""
    parser = configparser.ConfigParser()
    parser.read(tree / ".importlinter")
    contracts = [parser[name] for name in parser.sections() if parser[name].get("type", "").endswith("layers")]
    actions, collectors = " | ".join(action_modules(tree)), " | ".join(collector_modules(tree))
    return [
        [
            [f"{container}{room.strip('() ')}" for room in line.split("|")]
            for line in (
                line.replace("{actions}", actions).replace("{collectors}", collectors)
                for line in _lines_of(contract["layers"])
            )
        ]
        for contract in contracts
        for container in ([f"{name}." for name in _lines_of(contract.get("containers", ""))] or [""])
    ]


def action_modules(tree: Path) -> list[str]:
    """Lists the modules of the actions, for which `{actions}` stands in a contract: the flat files that hold a spec."""
    files = sorted((tree / "actions").glob("*.py"))
    return [f"actions.{file.stem}" for file in files if "\nSPEC = ActionSpec(" in file.read_text()]


def collector_modules(tree: Path) -> list[str]:
    """Lists the modules of the collectors, for which `{collectors}` stands in a contract."""
    files = sorted((tree / "collectors").glob("*.py"))
    return [f"collectors.{file.stem}" for file in files if "\nSPEC = CollectorSpec(" in file.read_text()]


def _lines_of(text: str) -> list[str]:
    """Splits a value of several lines, empty ones and comments left out."""
    return [line.strip() for line in text.split("\n") if line.strip() and not line.strip().startswith("#")]


def arrows_back(graph: dict[str, set[str]], contracts: list[list[list[str]]]) -> list[str]:
    """Lists the imports that go up in a layers contract, or sideways between rooms of one line."""
    arrows = set()
    for layers in contracts:
        for name, imported in graph.items():
            here = _place_in(layers, name)
            for other in imported:
                there = _place_in(layers, other)
                if here and there and there[0] <= here[0] and there[1] != here[1]:
                    arrows.add(f"{name} -> {other}")
    return sorted(arrows)


def _place_in(layers: list[list[str]], name: str) -> tuple[int, str] | None:
    """Finds the line and the room of a module in a contract; the longest room that holds it wins."""
    places = [
        (number, room)
        for number, rooms in enumerate(layers)
        for room in rooms
        if name == room or name.startswith(f"{room}.")
    ]
    return max(places, key=lambda place: len(place[1]), default=None)


def biggest_folder(tree: Path, packages: tuple[str, ...]) -> tuple[str, int]:
    """Returns the folder with most Python files directly in it, and how many."""
    files = [file for name in packages for file in (tree / name).rglob("*.py") if "node_modules" not in file.parts]
    counts = Counter(str(file.parent.relative_to(tree)) for file in files if file.name != "__init__.py")
    return counts.most_common(1)[0] if counts else ("", 0)


def measure_house(tree: Path = ROOT) -> House:
    """Measures a checkout."""
    modules = read_modules(tree)
    known = {module.name for module in modules}
    at_load = {module.name: imports_of(module, known, at_load_only=True) for module in modules}
    anywhere = {module.name: imports_of(module, known, at_load_only=False) for module in modules}
    importers = Counter(other for imported in anywhere.values() for other in imported)
    everything = [function for module in modules for function in functions_of(module)]
    lengths = [function.lines for function in everything]
    functions = [function for function in everything if not re.fullmatch(r"__\w+__", function.name)]
    one_word = [function for function in functions if function.words == 1]
    protocol = [function for function in one_word if function.name.strip("_") in PROTOCOL_WORDS]
    places = class_places(modules)
    total = sum(module.lines for module in modules)
    bindings = [line for module in modules for line in vague_bindings(module)]
    people = [line for module in modules for line in people_lines(module)]
    filled = [module for module in modules if not module.is_package and not module.is_empty]
    small = [module.path for module in filled if module.lines < SMALL]
    return House(
        modules=len([module for module in modules if not module.is_empty]),
        import_circles=import_circles(at_load),
        arrows_back=arrows_back(anywhere, layers_of(tree)),
        reached_percent=reached_percent(at_load),
        one_importer=list(importers.values()).count(1),
        function_median=statistics.median(lengths),
        function_p90=statistics.quantiles(lengths, n=10)[-1],
        function_max=max(lengths),
        words_per_name=statistics.mean(function.words for function in functions),
        one_word_percent=100 * len(one_word) / len(functions),
        protocol_word_percent=100 * len(protocol) / len(functions),
        unlisted_public_words=unlisted_public_words(functions),
        classes=len(places),
        classes_twice={name: where for name, where in sorted(places.items()) if len(where) > 1},
        vague_locals=1000 * len(bindings) / total,
        vague_local_lines=bindings,
        vague_people=1000 * len(people) / total,
        vague_people_lines=people,
        biggest_folder=biggest_folder(tree, PRODUCT),
        biggest_folder_of_all=biggest_folder(tree, PRODUCT + OTHERS),
        small_percent=100 * len(small) / len(filled),
        small_modules=small,
        big_modules=[f"{module.path} {module.lines}" for module in modules if module.lines > BIG],
    )


def unlisted_public_words(functions: list[Function]) -> list[str]:
    """Names the public module-level functions of one word that are no protocol word and no command of the command line."""
    return sorted(
        f"{function.module}:{function.name}"
        for function in functions
        if function.words == 1
        and function.is_public
        and not function.is_method
        and not function.is_command
        and function.name not in PROTOCOL_WORDS
    )


def table_rows(house: House) -> list[tuple[str, str]]:
    """Returns the table for a terminal, a line for each figure."""
    return [
        ("modules", f"{house.modules}"),
        ("import circles; arrows back up", f"{len(house.import_circles)}; {len(house.arrows_back)}"),
        (
            "modules reached by imports, median; with one importer",
            f"{house.reached_percent:.0f} %; {house.one_importer}",
        ),
        (
            "function lines, median/p90/max",
            f"{house.function_median:.0f}/{house.function_p90:.0f}/{house.function_max}",
        ),
        (
            "words per function name; one-word names (of them protocol words)",
            f"{house.words_per_name:.2f}; {house.one_word_percent:.0f} % ({house.protocol_word_percent:.0f} %)",
        ),
        ("public one-word functions that are no protocol word", f"{len(house.unlisted_public_words)}"),
        ("class names in two or more modules", f"{len(house.classes_twice)} of {house.classes}"),
        ("locals called found, one, said, told, kept, left, taken; per 1,000 lines", f"{house.vague_locals:.1f}"),
        ("lines with nobody, somebody, whoever, whatever; per 1,000", f"{house.vague_people:.1f}"),
        ("modules of one folder at most", "{1} ({0})".format(*house.biggest_folder)),
        ("the same with tests, bench and grafana", "{1} ({0})".format(*house.biggest_folder_of_all)),
        (f"modules under {SMALL} lines; over {BIG}", f"{house.small_percent:.0f} %; {len(house.big_modules)}"),
    ]


def main() -> None:
    """Prints the table, or everything as JSON."""
    parser = argparse.ArgumentParser(description="Measures names, sizes, folders and imports of the product.")
    parser.add_argument("--json", action="store_true", help="everything, with the lists of what to mend")
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="DIR", help="another checkout")
    options = parser.parse_args()
    house = measure_house(options.tree.resolve())
    if options.json:
        print(json.dumps(asdict(house), indent=1))
        return
    rows = table_rows(house)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
