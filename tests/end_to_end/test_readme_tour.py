"""From nothing to a firing alert, its section of the runbook, and the panel that shows what was done: by the README alone.

With the shipped rules as they are, the alert waits for two minutes: `make soak`.
"""

import re
import time
from pathlib import Path

import pytest
import yaml

from tests.support.checks.dashboard_check import load_dashboard, panels, substituted
from tests.support.checks.documents import ROOT, Block, fenced_blocks, heading_anchors
from tests.support.real.real_parts import Pair, free_addresses, running
from tests.support.scenes.documented_machine import machine_with_a_queue, serving

pytestmark = [pytest.mark.soak, pytest.mark.real]
README = fenced_blocks(ROOT / "README.md")


def having(words: str) -> Block:
    """The README's block with these words."""
    (found,) = [block for block in README if words in block.text]
    return found


def test_the_readme_leads_to_an_alert_its_section_and_the_panel_that_shows_the_remediation(tmp_path: Path) -> None:
    began, addresses = time.monotonic(), free_addresses()
    with machine_with_a_queue(tmp_path) as machine:
        work = machine.folder / "work"
        for words in ("config example", "rules render"):
            result = machine.run(having(words).text)
            assert result.returncode == 0, result.stderr
        machine.edit(work / "queuekeeper.yaml")
        token = tmp_path / "token"
        token.write_text("the-token-of-the-tour\n")
        token.chmod(0o600)
        _enable(work / "queuekeeper.yaml", machine.agent, token)
        assert machine.run(having("config check").text).returncode == 0
        parts = yaml.safe_load(machine.here(having("scrape_configs").text))
        parts["rule_files"] = [str(work / name) for name in parts["rule_files"]]
        parts["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [addresses.alertmanager]}]}]}
        parts["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        people = having("receivers:").text.replace("/etc/prometheus/queuekeeper.token", str(token))
        with (
            serving(machine, having("queuekeeper serve").text),
            running(tmp_path / "pair", addresses, yaml.safe_dump(parts), machine.here(people)) as pair,
        ):
            pair.wait(lambda: pair.query('ALERTS{alertname="QueueStaleLeases", alertstate="firing"}'), "the alert")
            url = next(each for each in pair.alerts() if each["labels"]["alertname"] == "QueueStaleLeases")
            pair.wait(lambda: _panel_tells(pair), "the panel to show the remediation")
    assert url["annotations"]["runbook_url"].partition("#")[2] in heading_anchors(ROOT / "docs" / "runbook.md")
    assert time.monotonic() - began < 600


def _enable(config: Path, agent: str, token: Path) -> None:
    """Acting is enabled by hand, for alerts only, so that the whole way is gone."""
    text = config.read_text().replace("localhost:9977", agent)
    text = text.replace("enabled: false", f"enabled: true\n  allow: {{token_files: [{token}]}}")
    text = re.sub(r"on: \{threshold: \{for: \w+\}, alert", "on: {alert", text)
    config.write_text(text.replace("do: requeue", "do: requeue\n    options: {guarded: true, limit: 500}"))


def _panel_tells(pair: Pair) -> bool:
    """The query of "Did it help?", as Grafana would send it, counts a run that fixed it."""
    board = load_dashboard(ROOT / "grafana" / "dashboards" / "overview.json")
    (panel,) = [each for each in panels(board) if each["title"] == "Did it help?"]
    values = {"job": ".+", "instance": ".+", "database": ".+", "__interval": "1m"}
    answer = pair.query(substituted(panel["targets"][0]["expr"], values))
    return any(each["metric"]["effect"] == "fixed" and float(each["value"][1]) > 0 for each in answer)
