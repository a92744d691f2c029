"""How fast an agent answers scrapes while other clients attack it, and what that costs it.

    python bench/abuse.py [--seconds 60]

Over TLS, one scrape each tenth of a second, beside: 150 silent connections, 150 half request heads, dripping heads and
bodies, heads of 1 MiB, bodies of 200 MiB, 40 event streams that no client reads, and 64 scrapes at once each second
(tests/support/processes/abuser.py).
Exit 1 when the 99th percentile is above 100 ms, more than 20 MiB were held, or a half-open connection lived longer than 30 s.
The abuser runs on the same cores: on a busy machine the figures are the machine's.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.exporter.web.test_web_abuse import MIB, abused, tls_agent

P99, HELD, LIVED = 0.1, 20 * MIB, 30.0


def main() -> None:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name, tls_agent(Path(name)) as (agent, context):
        result = abused(agent, context, Path(name), seconds)
    lived = max(result.report["longest"].get(kind, 0.0) for kind in ("silent", "half", "dripping head"))
    p50, p99 = result.quantile(0.5), result.quantile(0.99)
    print(f"{len(result.seconds)} scrapes: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms")
    print(f"held at most {result.grown / MIB:.1f} MiB more; half-open ones lived {lived:.1f} s at most")
    print(f"the strangers saw: {result.report['seen']}")
    sys.exit(p99 > P99 or result.grown > HELD or lived > LIVED)


if __name__ == "__main__":
    main()
