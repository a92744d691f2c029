"""The bars of the dashboards count events as they happened: promtool asks their queries of series written down by hand."""

import json
from pathlib import Path

import pytest

from exporter.alert_rules.catalogue import all_alerts
from grafana.panels import WATCHED, event_query, growth_query
from tests.support.checks.dashboard_check import substituted
from tests.support.real.real_parts import run

pytestmark = pytest.mark.real
EVERYTHING = {"job": ".+", "instance": ".+", "database": ".+", "__interval": "1m"}
OF_JOBS = 'job="queuekeeper", instance="a:9977", database="jobs"'
OF_MAIL = 'job="queuekeeper", instance="a:9977", database="mail"'


def counts(folder: Path, expression: str, series: dict[str, str], expected: dict[int, dict[str, int]]) -> str:
    """What promtool complains about: `expected` is, for each minute, the value of each `outcome`."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": substituted(expression, EVERYTHING),
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{outcome="{one}"}}', "value": value} for one, value in values.items()],
            }
            for minute, values in expected.items()
        ],
    }
    file = folder / "events.yaml"
    file.write_text(json.dumps({"rule_files": [], "tests": [test]}))
    result = run("promtool", "test", "rules", file)
    return "" if result.returncode == 0 else result.stdout


def runs(outcome: str, of: str = OF_JOBS) -> str:
    return f'runs_total{{{of}, outcome="{outcome}"}}'


def test_a_run_is_one_and_not_what_increase_makes_of_it(tmp_path: Path) -> None:
    series = {runs("done"): "0 0 1 1 3"}
    expected = {1: {"done": 0}, 2: {"done": 1}, 3: {"done": 0}, 4: {"done": 2}}
    assert counts(tmp_path, event_query("runs_total", "outcome", WATCHED), series, expected) == ""


def test_the_first_run_counts_though_its_counter_begins_with_it(tmp_path: Path) -> None:
    series = {runs("done"): "0 0 0 0", runs("blocked"): "_ _ 1 1"}
    expected = {1: {"done": 0}, 2: {"done": 0, "blocked": 1}, 3: {"done": 0, "blocked": 0}}
    assert counts(tmp_path, event_query("runs_total", "outcome", WATCHED), series, expected) == ""


@pytest.mark.parametrize(
    "series", [{runs("done"): "_ _ 500 500"}, {runs("done"): "_ _ 500 500", runs("done", OF_MAIL): "0 0 0 0"}]
)
def test_what_a_life_has_counted_is_not_new_when_it_is_first_seen(tmp_path: Path, series: dict[str, str]) -> None:
    seen = {"done": 0}
    expected = {2: seen if len(series) > 1 else {}, 3: seen}
    assert counts(tmp_path, event_query("runs_total", "outcome", WATCHED), series, expected) == ""


def test_what_a_counter_has_after_a_restart_is_new(tmp_path: Path) -> None:
    expected = {1: {"done": 0}, 2: {"done": 2}, 3: {"done": 1}}
    assert counts(tmp_path, event_query("runs_total", "outcome", WATCHED), {runs("done"): "9 9 2 3"}, expected) == ""


def test_a_file_that_was_replaced_enqueued_nothing(tmp_path: Path) -> None:
    expected = {1: {"done": 10}, 2: {"done": 0}, 3: {"done": 5}}
    assert (
        counts(tmp_path, growth_query("runs_total", "outcome", WATCHED), {runs("done"): "90 100 40 45"}, expected) == ""
    )


def test_a_schedule_missed_while_the_agent_was_down_for_a_night_is_told_of_for_an_hour(tmp_path: Path) -> None:
    (alert,) = [each for each in all_alerts() if each.name == "QueueScheduleMissed"]
    series = {f'queuekeeper_schedule_missed_total{{{OF_JOBS}, outcome="daily"}}': "4x100 _x600 5x100"}
    expected: dict[int, dict[str, int]] = {99: {}, 710: {"daily": 5}, 755: {"daily": 5}, 770: {}}
    assert counts(tmp_path, f"sum by (outcome) ({alert.expression})", series, expected) == ""
