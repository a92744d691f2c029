"""Makes promtool's unit tests of alerts/cases.yaml, whose head says what a case is.

promtool wants every sample, every label and every text spelled out: 40 alerts that way are 3,000 lines, too many to read.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

ALERTS = Path(__file__).resolve().parent / "alerts"
CASES = ALERTS / "cases.yaml"
STEPS = {"1m": 60, "1h": 3600}
# The step at which things go wrong, and how many steps after firing "lost" vanishes and is looked for.
WRONG_FROM, VANISHES, LOOKED_FOR = 5, 5, 6
AGENT = {"job": "queuekeeper", "instance": "a:9977"}
NAMES = {"database": ("jobs", "lost"), "instance": ("a:9977", "lost:9977"), "none": ("",)}
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def load_cases() -> list[Json]:
    """The cases, in order."""
    loaded: list[Json] = yaml.safe_load(CASES.read_text())
    return loaded


def promtool_test_file(cases: list[Json], step: str) -> str:
    """promtool's test file of the cases that take this step."""
    head = f"# Generated from cases.yaml by `python -m grafana.build`; do not edit. Every step is {step}.\n"
    content = {
        "rule_files": ["queuekeeper.yaml"],
        "evaluation_interval": step,
        "tests": [_promtool_test(case, step) for case in cases if case.get("step", "1m") == step],
    }
    return head + yaml.safe_dump(content, sort_keys=False, width=10_000)


def _promtool_test(case: Json, step: str) -> Json:
    fires = WRONG_FROM + case["for"]
    resolves = WRONG_FROM + _wrong_steps(case)
    all_names = NAMES[case.get("each", "database")]
    survivors = all_names if case.get("remembers") else all_names[:1]
    return {
        "name": " ".join(filter(None, [case["alert"], case.get("case")])),
        "interval": step,
        "input_series": [*_input_series(case, STEPS[step])],
        "promql_expr_test": [
            _expected_state(case, WRONG_FROM - 1, step, "", ()),
            _expected_state(case, fires - 1, step, "pending", all_names),
            _expected_state(case, fires + LOOKED_FOR, step, "firing", survivors),
        ],
        "alert_rule_test": [
            _expected_alerts(case, fires - 1, step, ()),
            _expected_alerts(case, fires, step, all_names),
            _expected_alerts(case, resolves + 2, step, ()),
        ],
    }


def _wrong_steps(case: Json) -> int:
    return int(case.get("lasts", case["for"] + 11))


def _input_series(case: Json, seconds: int) -> Iterator[Json]:
    vanishes = WRONG_FROM + case["for"] + VANISHES
    names = NAMES[case.get("each", "database")]
    for selector, values in case["series"].items():
        for name in names:
            samples = _phase_samples(values, _wrong_steps(case), seconds)
            yield _one_series(case, selector, name, samples if name == names[0] else [*samples[:vanishes], "stale"])
    for selector, values in case.get("near", {}).items():
        yield _one_series(case, selector, "near", _phase_samples(values, _wrong_steps(case), seconds))


def _one_series(case: Json, selector: str, name: str, samples: list[str]) -> Json:
    metric, _, matchers = selector.partition("{")
    labels = {**_agent_labels(case), **_name_label(case, name), **dict(_LABEL.findall(matchers))}
    return {"series": f"{metric}{_label_selector(labels)}", "values": " ".join(_compress_samples(samples))}


def _agent_labels(case: Json) -> dict[str, str]:
    """The labels of the agent; what is about no agent at all has the job only."""
    return {"job": AGENT["job"]} if case.get("each") == "none" else AGENT


def _name_label(case: Json, name: str) -> dict[str, str]:
    each = case.get("each", "database")
    return {} if each == "none" else {each: name}


def _phase_samples(values: Mapping[str, Any], lasts: int, seconds: int) -> list[str]:
    """One sample for each step: well, wrong, well again."""
    phases = [(values["well"], WRONG_FROM), (values["wrong"], lasts), (values.get("after", values["well"]), 10)]
    made: list[str] = []
    for value, length in phases:
        made += [_sample_text(value, step, seconds) for step in range(len(made), len(made) + length)]
    # Prometheus' own mark that a series ended; without it the last value would count for five minutes.
    return ["stale" if now == "_" and before != "_" else now for before, now in zip(["_", *made], made, strict=False)]


def _sample_text(value: Any, step: int, seconds: int) -> str:
    match value:
        case "gone":
            return "_"
        case {"age": age}:
            return str(step * seconds - age)
        case {"at": at}:
            return str(at)
        case {"from": start, "by": by}:
            return f"{start + by * step:.0f}"
        case number:
            return str(number)


def _compress_samples(samples: list[str]) -> Iterator[str]:
    """Runs of one value as promtool's `VALUE+0xTIMES`."""
    for value, run in groupby(samples):
        length = len(list(run))
        if value == "stale":
            yield value
        elif value == "_":
            yield f"_x{length}"
        else:
            yield f"{value}+0x{length - 1}" if length > 1 else value


def _alert_labels(case: Json, name: str) -> dict[str, str]:
    return {**_agent_labels(case), **_name_label(case, name), **case["labels"]}


def _expected_state(case: Json, at: int, step: str, state: str, names: tuple[str, ...]) -> Json:
    """Which names are pending or firing at this step; with an empty state, none is either."""
    wanted = f', alertstate="{state}"' if state else ""
    samples = [
        {
            "labels": "ALERTS"
            + _label_selector({"alertname": case["alert"], "alertstate": state, **_alert_labels(case, name)}),
            "value": 1,
        }
        for name in names
    ]
    expression = f'ALERTS{{alertname="{case["alert"]}"{wanted}}}'
    return {"expr": expression, "eval_time": _step_time(at, step), "exp_samples": samples}


def _expected_alerts(case: Json, at: int, step: str, names: tuple[str, ...]) -> Json:
    alerts = [
        {"exp_labels": _alert_labels(case, name), "exp_annotations": _expected_annotations(case, name)}
        for name in names
    ]
    return {"eval_time": _step_time(at, step), "alertname": case["alert"], "exp_alerts": alerts}


def _expected_annotations(case: Json, name: str) -> dict[str, str]:
    runbook = "https://github.com/queuekeeper/queuekeeper/blob/main/docs/runbook.md"
    texts = {key: case[key].replace("{name}", name) for key in ("summary", "description")}
    return {**texts, "runbook_url": f"{runbook}#{case['alert'].lower()}"}


def _step_time(step: int, unit: str) -> str:
    return f"{step}{unit[-1]}"


def _label_selector(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
