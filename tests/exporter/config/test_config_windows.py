"""Windows of the configuration: what loads, what is wrong, what would never run, and how their state is described."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from actions.policy.windows import Window
from actions.runner.catalogue import ACTION_SPECS
from exporter.config.load import known_actions, known_metrics, load_config
from exporter.config.problems import ConfigErrors
from exporter.config.settings import ActingSettings, Config
from exporter.status import rule_state

MINIMAL = "databases:\n  - {path: /var/lib/app/queue.db, backup: {directory: /var/backups}}\n"
THREE = datetime(2026, 11, 25, 3, tzinfo=UTC).timestamp()


def loaded(folder: Path, text: str) -> Config:
    file = folder / "queuekeeper.yaml"
    file.write_text(MINIMAL + text)
    return load_config(file, known_actions(), known_metrics())


def error(folder: Path, text: str) -> str:
    with pytest.raises(ConfigErrors) as caught:
        loaded(folder, text)
    (line,) = caught.value.lines
    return line.partition("yaml:")[2]


@pytest.mark.parametrize(
    ("written", "window"),
    [
        ("02:00-04:00", Window(120, 240)),
        ("23:30-00:15", Window(1410, 15)),
        ("00:00-24:00", Window(0, 1440)),
    ],
)
def test_a_window_loads_in_utc_unless_a_zone_is_named(tmp_path: Path, written: str, window: Window) -> None:
    text = f'actions: {{windows: {{requeue: "{written}"}}}}\n'
    assert loaded(tmp_path, text).acting.windows == {"requeue": window}
    there = loaded(tmp_path, text + "timezone: Europe/Berlin\n").acting.windows["requeue"]
    assert there == Window(window.begins, window.ends, "Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'actions: {windows: {requeue: "2-4"}}',
            '3: actions.windows.requeue: "2-4" does not fit; write two times of day',
        ),
        ('actions: {windows: {requeue: "24:00-02:00"}}', "does not fit"),
        ('actions: {windows: {requeue: "02:00-02:00"}}', "ends when it begins; for the whole day write 00:00-24:00"),
        ('actions: {windows: {requeu: "02:00-04:00"}}', '"requeu" is not an action; did you mean "requeue"?'),
        ("timezone: Europe/Berlim", '3: timezone: "Europe/Berlim" is not a time zone of this machine; write one like'),
        ("timezone: ../../etc/passwd", "is not a time zone"),
    ],
)
def test_what_is_no_window_or_zone_is_said_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    assert says in error(tmp_path, text + "\n")


def test_a_window_of_what_never_runs_by_itself_is_warned_of(tmp_path: Path) -> None:
    (warning,) = loaded(tmp_path, 'actions: {windows: {restore: "02:00-04:00"}}\n').warnings
    assert "restore never runs automatically" in warning


def test_how_a_window_stands_is_said_in_words() -> None:
    acting = ActingSettings(windows={"requeue": Window(120, 240), "backup": Window(240, 300), "prune": Window(0, 1440)})
    lines = list(rule_state.window_lines(acting, THREE))
    assert "requeue: 02:00-04:00 UTC, open until 2026-11-25 04:00:00Z" in lines
    assert "backup: 04:00-05:00 UTC, closed until 2026-11-25 04:00:00Z" in lines
    assert "prune: 00:00-24:00 UTC, open" in lines
    assert list(rule_state.window_obstacles(acting, "requeue", THREE)) == []
    assert list(rule_state.window_obstacles(acting, "checkpoint", THREE)) == []
    (closed,) = rule_state.window_obstacles(acting, "backup", THREE)
    assert closed == "its window 04:00-05:00 UTC is closed: it waits until 2026-11-25 04:00:00Z"


def test_a_rule_for_an_action_without_its_window_is_warned_of(tmp_path: Path) -> None:
    for action in (name for name, spec in ACTION_SPECS.items() if spec.needs_window and spec.automatic):
        rule = f"rules: [{{name: r, when: {{sqlite_pages: {{above: 1}}}}, on: {{threshold: {{}}}}, do: {action}}}]\n"
        (warning,) = loaded(tmp_path, rule).warnings
        assert f"rules[0].do: {action} runs automatically only inside a window" in warning
        assert f'{{windows: {{{action}: "02:00-04:00"}}}}' in warning
        assert loaded(tmp_path, rule + f'actions: {{windows: {{{action}: "02:00-04:00"}}}}\n').warnings == ()
        assert any(line.startswith(f"{action}: no window") for line in rule_state.window_lines(ActingSettings(), THREE))
        assert list(rule_state.window_obstacles(ActingSettings(), action, THREE))


def test_what_cannot_be_undone_and_has_no_place_for_backups_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "queuekeeper.yaml"
    rule = "rules: [{name: r, when: {sqlite_pages: {above: 1}}, on: {threshold: {}}, do: vacuum}]\n"
    windows = 'actions: {windows: {vacuum: "02:00-04:00"}}\n'
    file.write_text("databases: [{path: /var/lib/app/queue.db}]\n" + rule + windows)
    (warning,) = load_config(file, known_actions(), known_metrics()).warnings
    assert "rules[0].do: queue has no backup directory" in warning
