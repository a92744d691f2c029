"""The exporter that most people write first: every database is opened with sqlite3 at every scrape. naive.py DIR PORT"""

import sqlite3  # noqa: TID251 - a peer, in its own process
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from queries import SINGLE, SINGLE_SQL, STATUS_METRIC, STATUS_SQL


class Fleet(Collector):
    """All databases of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = {name: GaugeMetricFamily(name, text, labels=["database"]) for name, text in SINGLE.items()}
        states = GaugeMetricFamily(STATUS_METRIC, "tasks by status", labels=["database", "status"])
        for path in sorted(self.folder.glob("*.db")):
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)
            try:
                for name, value in zip(SINGLE, connection.execute(SINGLE_SQL).fetchone(), strict=True):
                    families[name].add_metric([path.name], value)
                for status, number in connection.execute(STATUS_SQL):
                    states.add_metric([path.name, status], number)
            finally:
                connection.close()
        yield from families.values()
        yield states


if __name__ == "__main__":
    registry = CollectorRegistry()
    registry.register(Fleet(Path(sys.argv[1])))
    start_http_server(int(sys.argv[2]), addr="127.0.0.1", registry=registry)
    threading.Event().wait()
