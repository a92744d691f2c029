"""Import contracts that name all actions, or all collectors, at once.

`{actions}` in .importlinter stands for every action of the folder, `{collectors}` for every collector. So a new one is bound
by them without being named there. The files are read, not imported: a contract must also be checked where an import is broken.
"""

from pathlib import Path
from typing import Any

from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

PLACEHOLDER = "{actions}"
COLLECTORS_PLACEHOLDER = "{collectors}"


def action_modules() -> list[str]:
    """The modules of the actions: the flat files of actions/ that hold a spec. Of the current folder, as lint-imports."""
    files = sorted(Path("actions").glob("*.py"))
    return [f"actions.{file.stem}" for file in files if "\nSPEC = ActionSpec(" in file.read_text("utf-8")]


def collector_modules() -> list[str]:
    """The modules of the collectors: the flat files of collectors/ that hold a spec. Of the current folder, as lint-imports."""
    files = sorted(Path("collectors").glob("*.py"))
    return [f"collectors.{file.stem}" for file in files if "\nSPEC = CollectorSpec(" in file.read_text("utf-8")]


class ActionLayers(LayersContract):
    """Layers, with all actions as one layer of independent modules."""

    def __init__(self, name: str, session_options: dict[str, Any], contract_options: dict[str, Any]) -> None:
        layers = [layer.replace(PLACEHOLDER, " | ".join(action_modules())) for layer in contract_options["layers"]]
        super().__init__(name, session_options, {**contract_options, "layers": layers})


class CollectorLayers(LayersContract):
    """Layers, with all collectors as one layer of independent modules."""

    def __init__(self, name: str, session_options: dict[str, Any], contract_options: dict[str, Any]) -> None:
        collectors = " | ".join(collector_modules())
        layers = [layer.replace(COLLECTORS_PLACEHOLDER, collectors) for layer in contract_options["layers"]]
        super().__init__(name, session_options, {**contract_options, "layers": layers})


class ActionProtected(ProtectedContract):
    """Protected modules, with all actions among the protected ones or the allowed importers."""

    def __init__(self, name: str, session_options: dict[str, Any], contract_options: dict[str, Any]) -> None:
        expanded = {key: _expand(contract_options[key]) for key in ("protected_modules", "allowed_importers")}
        super().__init__(name, session_options, {**contract_options, **expanded})


def _expand(modules: list[str]) -> list[str]:
    return [name for module in modules for name in (action_modules() if module == PLACEHOLDER else [module])]
