"""Writes a query-exporter 5 configuration for every database of a folder. query_exporter_config.py DIR FILE SECONDS"""

import json
import sys
from pathlib import Path

from queries import SINGLE, SINGLE_SQL, STATUS_METRIC, STATUS_SQL

folder, out, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
databases = {path.name: {"dsn": f"sqlite:///{path.absolute()}"} for path in sorted(folder.glob("*.db"))}
metrics = {name: {"type": "gauge", "description": text} for name, text in SINGLE.items()}
metrics[STATUS_METRIC] = {"type": "gauge", "description": "tasks by status", "labels": ["status"]}
queries = {
    "single": {"interval": seconds, "databases": list(databases), "metrics": list(SINGLE), "sql": SINGLE_SQL},
    "status": {"interval": seconds, "databases": list(databases), "metrics": [STATUS_METRIC], "sql": STATUS_SQL},
}
out.write_text(json.dumps({"databases": databases, "metrics": metrics, "queries": queries}))  # JSON is YAML
