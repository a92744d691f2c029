"""Loads a configuration file into a Config; every error in it is reported at once, each with its line."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from actions.model.options import ActionOption
from actions.runner.catalogue import ACTION_SPECS
from collectors.metric import Metric
from collectors.registry import COLLECTORS
from exporter.config import assemble
from exporter.config.problems import ConfigErrors, ConfigProblem, problem_lines, schema_problems
from exporter.config.schema import ConfigFile
from exporter.config.settings import Config
from exporter.config.yaml_positions import InvalidYaml, parse_yaml

ActionOptions = Mapping[str, Mapping[str, ActionOption]]
MAX_FILE_BYTES = 4 * 1024 * 1024


def load_config(path: Path, actions: ActionOptions, metrics: Mapping[str, Metric]) -> Config:
    """The configuration of one file. Raises ConfigErrors.

    `actions`: the options of each action by its name. `metrics`: the metrics that a rule may use. Relative paths in
    the file begin at its folder.
    """
    path = path.absolute()
    try:
        document = parse_yaml(read_config_text(path))
    except InvalidYaml as error:
        raise ConfigErrors((f"{path}:{error.line}: {error}",)) from error
    if not isinstance(document.data, dict):
        raise ConfigErrors((f"{path}:1: no configuration in it; start from `queuekeeper config example`",))
    try:
        file = ConfigFile.model_validate(document.data)
    except ValidationError as error:
        raise ConfigErrors(problem_lines(path, document, schema_problems(error))) from error
    problems: list[ConfigProblem] = []
    warnings: list[ConfigProblem] = []
    config = assemble.build_config(file, path, assemble.KnownNames(actions, metrics), problems, warnings)
    if problems:
        raise ConfigErrors(problem_lines(path, document, problems))
    return assemble.with_warnings(config, problem_lines(path, document, warnings))


def read_config_text(path: Path) -> str:
    """The text of a configuration file. Raises ConfigErrors."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigErrors(
            (f"{path}: cannot be read: {error.strerror}; check the path and its permissions",)
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigErrors((f"{path}: larger than {MAX_FILE_BYTES} bytes; is it a configuration file?",))
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigErrors((f"{path}:{line}: not UTF-8; save the file as UTF-8",)) from error


def example_text() -> str:
    """The text of the example file."""
    return files("exporter.config").joinpath("example.yaml").read_text("utf-8")


def known_actions() -> Mapping[str, Mapping[str, ActionOption]]:
    """The options of each action that a rule may ask for, by its name."""
    return {name: spec.options for name, spec in ACTION_SPECS.items() if spec.automatic}


def known_metrics() -> Mapping[str, Metric]:
    """The metrics that a rule may use: those of the collectors, since a rule is judged on one database's snapshot."""
    return {metric.name: metric for collector in COLLECTORS for metric in collector.METRICS}
