"""How soon the page of 200 databases is seen in Chromium, and how heavy it is.

    python bench/first_paint.py [--databases 200] [--times 5]

A real agent that has read them all, a browser with an empty cache each time. Exit 1 above 1 s (median) or 200 KB in all.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.support.real import browser, real_parts
from tests.support.scenes import agent_process, prismq

CONFIG = "databases: [{path: FOLDER/found/*.db}]\npoll: {interval: 15s}\nstate: FOLDER/state\n"
MOST_SECONDS, MOST_BYTES = 1.0, 200_000
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
WEIGHT = (
    "performance.getEntries().filter(one => 'transferSize' in one)"
    ".map(one => [one.name.replace(/[?].*/, ''), one.transferSize, one.decodedBodySize])"
)


def main() -> None:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--databases", type=int, default=200)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "found").mkdir()
        for number in range(given.databases):
            queue = prismq.create(folder / "found" / f"queue{number:03}.db", journal_mode="delete")
            queue.put(number=3)
            queue.owner.close()
        with agent_process.agent(folder, CONFIG) as agent, browser.chromium() as chromium:
            seconds, weight = measure(agent.url, chromium, given.times)
    for address, sent, whole in weight:
        print(f"{address}: {sent / 1000:.1f} KB sent, {whole / 1000:.1f} KB as text")
    median, total = statistics.median(seconds), sum(whole for _, _, whole in weight)
    print(
        f"first paint: median {median * 1000:.0f} ms of {[round(one * 1000) for one in seconds]}; {total / 1000:.1f} KB as text"
    )
    sys.exit(median > MOST_SECONDS or total > MOST_BYTES)


def measure(url: str, chromium: browser.Browser, times: int) -> tuple[list[float], list[tuple[str, int, int]]]:
    """Seconds to the first paint of each visit; of the last one what was loaded: address, bytes sent, bytes as text."""
    seconds, weight = [], []
    for _ in range(times):
        with browser.tab(chromium) as tab:
            tab.page.goto(url, wait_until="load")
            painted = real_parts.until(lambda page=tab.page: page.evaluate(PAINT), "the first paint")
            seconds.append(float(painted) / 1000)
            weight = tab.page.evaluate(WEIGHT)
    return seconds, weight


if __name__ == "__main__":
    main()
