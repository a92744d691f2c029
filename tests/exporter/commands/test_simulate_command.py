"""`queuekeeper simulate`: a saved payload or recorded readings in, what would have run when out."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from exporter.commands.main import main
from tests.support.scenes.webhook_site import alert, delivery

CONFIG = """\
identity: a:9977
databases: [{name: jobs, path: FOLDER/jobs.db}]
actions: {enabled: true}
rules:
  - name: stale-leases
    when: {sqlite_queue_stale_leases: {above: 0}}
    on: {threshold: {for: 1m}, alert: ['alertname="QueueStaleLeases"']}
    do: requeue
schedules:
  - {name: nightly, cron: "0 3 * * *", do: checkpoint}
state: FOLDER/state
"""
NIGHT = 1_772_420_400.0  # 2026-03-02 03:00:00 UTC


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "queuekeeper.yaml").write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    return tmp_path


def simulate(folder: Path, text: str | dict[str, Any] | list[Any], *options: str) -> Result:
    file = folder / "recorded.json"
    file.write_text(text if isinstance(text, str) else json.dumps(text))
    return CliRunner().invoke(main, ["simulate", str(file), f"--config.file={folder}/queuekeeper.yaml", *options])


def test_a_saved_payload_says_which_rule_would_run_and_for_which_alert(folder: Path) -> None:
    result = simulate(folder, delivery(alert(), alert(labels={"database": "payroll"}, fingerprint="beef")))
    assert result.exit_code == 0, result.output
    assert "jobs requeue (stale-leases): would run: requeue, by the alert of rule stale-leases" in result.output
    assert "alert c0ffee0123456789/1" in result.output
    assert "payroll: ignored: its database is not configured here" in result.output
    assert result.output.endswith("1 runs, from 0 readings and 1 deliveries\n")
    assert not (folder / "state").exists()


def test_several_payloads_with_their_times_show_what_is_a_repeat(folder: Path) -> None:
    lines = [json.dumps({"at": NIGHT + after, "payload": delivery()}) for after in (0, 3, 700)]
    result = simulate(folder, "\n".join(lines), "--json")
    story = json.loads(result.output)
    assert [(event["at"] - NIGHT, event["kind"]) for event in story] == [(0, "runs"), (3, "ignored"), (700, "runs")]
    assert set(story[0]) == {"at", "kind", "database", "words", "rule", "action"}


def stats(at: float, stale: float, *, success: bool = True) -> dict[str, Any]:
    """What `queuekeeper stats jobs --json` prints."""
    samples = [{"name": "sqlite_queue_stale_leases", "labels": {"queue": "mail"}, "value": stale}] if success else []
    return {
        "database": "jobs",
        "taken_at": at,
        "samples": [*samples, {"name": "sqlite_unheard_of", "labels": {}, "value": 1}],
        "collectors": {"leases": {"success": success, "duration": 0.1}},
    }


def test_our_own_readings_are_replayed(folder: Path) -> None:
    readings = [stats(NIGHT - 90, 2), stats(NIGHT - 40, 0, success=False), stats(NIGHT - 20, 2), stats(NIGHT + 5, 0)]
    result = simulate(folder, readings)
    assert result.output.splitlines() == [
        (
            "2026-03-02 02:59:40Z jobs requeue (stale-leases): would run: requeue, "
            "by the threshold of rule stale-leases: sqlite_queue_stale_leases is 2"
        ),
        "2026-03-02 03:00:05Z jobs requeue (stale-leases): ended: effect fixed (2 -> 0)",
        "2026-03-02 03:00:05Z jobs checkpoint (nightly): would run: checkpoint, by the schedule nightly",
        "2 runs, from 4 readings and 0 deliveries",
    ]


def series(name: str, values: list[tuple[float, str]], **labels: str) -> dict[str, Any]:
    return {"metric": {"__name__": name, "instance": "a:9977", "job": "queuekeeper", **labels}, "values": values}


def test_what_prometheus_kept_is_replayed(folder: Path) -> None:
    stale = [(NIGHT + at, value) for at, value in ((60, "2"), (120, "3"), (180, "3"), (240, "0"))]
    result = simulate(
        folder,
        {
            "status": "success",
            "data": {
                "resultType": "matrix",
                "result": [
                    series("sqlite_queue_stale_leases", stale, database="jobs", queue="mail"),
                    series("sqlite_queue_stale_leases", stale, database="jobs", queue="mail", instance="b:9977"),
                    series("sqlite_queue_stale_leases", stale, database="else", queue="mail", instance="b:9977"),
                    series("up", stale),
                    series("queuekeeper_collector_success", [(NIGHT + 150, "0")], database="jobs", collector="leases"),
                    series("queuekeeper_collector_success", [(NIGHT + 160, "1")], database="jobs", collector="leases"),
                ],
            },
        },
        "--json",
    )
    story = json.loads(result.output)
    assert [(event["at"] - NIGHT, event["database"], event["kind"]) for event in story] == [
        (120, "jobs", "runs"),
        (150, "jobs", "ended"),
    ]
    assert story[0]["words"].endswith("sqlite_queue_stale_leases is 3")
    assert story[1]["words"] == "effect unknown (3 -> not recorded)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nothing in it that can be replayed"),
        ("[1, 2]", "nothing in it that can be replayed"),
        ("{}", "nothing in it that can be replayed"),
        ("not json", "not JSON"),
        ("{} trailing", "not JSON"),
        ('{"alerts": []}', "payload version 'None' is not known"),
        ('{"payload": {"version": "4", "alerts": [{}]}}', "alerts.0.status"),
        ('{"data": {"resultType": "vector", "result": []}}', "ask /api/v1/query_range"),
        ('{"data": {"resultType": "matrix", "result": [{}]}}', "cannot be understood"),
        ('{"data": []}', "cannot be understood"),
        ('{"taken_at": "noon", "database": "jobs", "samples": []}', "cannot be understood"),
    ],
)
def test_what_cannot_be_replayed_is_one_line_and_a_usage_error(folder: Path, text: str, says: str) -> None:
    result = simulate(folder, text)
    assert result.exit_code == 2
    assert says in result.output
    assert len(result.output.splitlines()) == 1


def test_a_missing_file_is_one_line_and_a_usage_error(folder: Path) -> None:
    result = CliRunner().invoke(main, ["simulate", "/nowhere", f"--config.file={folder}/queuekeeper.yaml"])
    assert (result.exit_code, "cannot be read" in result.output) == (2, True)


def test_bytes_that_are_no_text_are_a_usage_error(folder: Path) -> None:
    (folder / "binary").write_bytes(b"\xff\xfe")
    result = CliRunner().invoke(main, ["simulate", f"{folder}/binary", f"--config.file={folder}/queuekeeper.yaml"])
    assert (result.exit_code, "not UTF-8" in result.output) == (2, True)


def test_where_acting_is_off_it_says_that_nothing_does(folder: Path) -> None:
    file = folder / "queuekeeper.yaml"
    file.write_text(file.read_text().replace("enabled: true", "enabled: false"))
    assert "acting is disabled in this configuration" in simulate(folder, delivery()).output
