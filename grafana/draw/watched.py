"""What is drawn: `queuekeeper demo`, and a Prometheus with the shipped rules that scrapes it."""

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from exporter.alert_rules.catalogue import JOB, all_alerts
from exporter.alert_rules.render import rule_entry
from exporter.demo.monitoring import ALERTS

ROOT = Path(__file__).resolve().parent.parent.parent
# The pictures are of minutes: rules that wait for minutes wait for a second each, those that wait for hours are left out.
HASTE, LONGEST = 60, 15 * 60
# Scrapes before the story begins: so that growth is seen from where it began.
BEFORE = 8


@dataclass(frozen=True, slots=True)
class RunningDemo:
    """Where its agent listens, `host:port`, and the folder with everything of it."""

    agent: str
    folder: Path
    process: "subprocess.Popen[str]"

    def resume_story(self) -> None:
        """Let the story go on: it waits, so that Prometheus sees its first scene too."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def run_demo() -> Iterator[RunningDemo]:
    """`queuekeeper demo` until the pictures are taken. RuntimeError where its healing does not go through Alertmanager."""
    command = [sys.executable, "-u", "-m", "exporter.commands", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("the demo says nothing")
        try:
            introduction = _read_introduction(process.stdout)
            match = re.search(r"in (/\S+), watched.*metrics +http://(\S+)/metrics", introduction, re.DOTALL)
            if match is None or "(Alertmanager" not in introduction:
                raise RuntimeError(f"Prometheus and Alertmanager are needed on PATH; the demo says: {introduction}")
            process.send_signal(signal.SIGSTOP)
            yield RunningDemo(match[2], Path(match[1]), process)
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()


def _read_introduction(lines: Iterator[str]) -> str:
    """All before the story begins."""
    text = ""
    for line in lines:
        text += line
        if "  try " in line:
            break
    return text


@contextmanager
def run_prometheus(of: RunningDemo, port: int) -> Iterator[None]:
    """A Prometheus that scrapes the agent every second, with shipped rules and the two of the demo itself."""
    with tempfile.TemporaryDirectory() as folder:
        config, rules = Path(folder) / "prometheus.yml", Path(folder) / "rules.yml"
        rules.write_text(_shipped_rules())
        config.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: ['{rules}', '{of.folder}/monitoring/rules.yml']\n"
            f"scrape_configs: [{{job_name: {JOB}, static_configs: [{{targets: ['{of.agent}']}}]}}]\n"
        )
        program = shutil.which("prometheus") or str(ROOT / ".real/usr/bin/prometheus")
        flags = [
            f"--config.file={config}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with subprocess.Popen([program, *flags, "--log.level=error"]) as process:
            try:
                while len(_query_scrapes(port)) < BEFORE:
                    time.sleep(0.2)
                yield
            finally:
                process.terminate()


def _query_scrapes(port: int) -> list[object]:
    question = urllib.parse.urlencode({"query": "up[1m]"})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{question}") as answer:
            series = json.load(answer)["data"]["result"]
    except OSError:  # it is not up yet
        return []
    return list(series[0]["values"]) if series else []


def _shipped_rules() -> str:
    """The shipped rules but for those that the demo has with bounds of its own."""
    chosen = [alert for alert in all_alerts() if alert.name not in ALERTS and alert.hold <= LONGEST]
    hasty = [replace(alert, hold=alert.hold // HASTE) for alert in chosen]
    groups = [{"name": "queuekeeper", "interval": "1s", "rules": [rule_entry(alert) for alert in hasty]}]
    return yaml.safe_dump({"groups": groups})
