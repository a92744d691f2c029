#!/usr/bin/env python3
"""Write a query-exporter 5 configuration for every *.db in DIR.
qe_config.py DIR OUT.yaml [INTERVAL_SECONDS|scrape] [pool_size]"""

import glob, json, os, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import queries as q

d, out = sys.argv[1], sys.argv[2]
every = sys.argv[3] if len(sys.argv) > 3 else "15"
pool = int(sys.argv[4]) if len(sys.argv) > 4 else 1
files = sorted(glob.glob(os.path.join(d, "*.db")))
names = [os.path.basename(f) for f in files]
cfg = {
    "databases": {
        n: {"dsn": "sqlite:///" + os.path.abspath(f), **({"connection-pool": {"size": pool}} if pool != 1 else {})}
        for n, f in zip(names, files)
    },
    "metrics": {
        **{m: {"type": "gauge", "description": h} for m, h in q.SINGLE.items()},
        q.STATUS_METRIC: {"type": "gauge", "description": "tasks by status", "labels": ["status"]},
    },
    "queries": {
        "single": {"databases": names, "metrics": list(q.SINGLE), "sql": q.SINGLE_SQL},
        "status": {"databases": names, "metrics": [q.STATUS_METRIC], "sql": q.STATUS_SQL},
    },
}
if every != "scrape":
    for v in cfg["queries"].values():
        v["interval"] = int(every)
with open(out, "w") as f:
    json.dump(cfg, f)  # JSON is YAML
