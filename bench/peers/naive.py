#!/usr/bin/env python3
"""The exporter most people write first: a prometheus_client custom collector that opens
every database with stdlib sqlite3 on every scrape.   naive.py DIR PORT"""

import glob, os, sqlite3, sys, time
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import queries as q


class Fleet:
    def __init__(self, d):
        self.d = d

    def describe(self):
        return []

    def collect(self):
        fams = {m: GaugeMetricFamily(m, h, labels=["database"]) for m, h in q.SINGLE.items()}
        st = GaugeMetricFamily(q.STATUS_METRIC, "tasks by status", labels=["database", "status"])
        names = list(q.SINGLE)
        for p in sorted(glob.glob(os.path.join(self.d, "*.db"))):
            name = os.path.basename(p)
            c = sqlite3.connect(f"file:{p}?mode=ro", uri=True, timeout=1)
            try:
                for m, v in zip(names, c.execute(q.SINGLE_SQL).fetchone()):
                    fams[m].add_metric([name], v)
                for s, n in c.execute(q.STATUS_SQL):
                    st.add_metric([name, s], n)
            finally:
                c.close()
        yield from fams.values()
        yield st


if __name__ == "__main__":
    reg = CollectorRegistry()
    reg.register(Fleet(sys.argv[1]))
    start_http_server(int(sys.argv[2]), addr="127.0.0.1", registry=reg)
    while True:
        time.sleep(3600)
