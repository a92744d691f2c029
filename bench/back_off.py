"""How long must we pause between two batches with the write lock, so that every waiting writer gets it? A simulation.

    python bench/back_off.py [--hold 15]

A writer begins to wait at a random moment and sleeps as SQLite's busy handler does, a little longer than requested, while
we hold the lock for about `--hold` ms again and again, with pauses by several rules in between. Printed for each rule: the
share of time that we hold the lock, and the waits in ms.
"""

import argparse
import random
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

from processes import percentile

from actions.sqlite.pacing import BACK_OFF, delay_after_hold

WAITERS, TURNS = 50, 100
Rule = Callable[[float, random.Random], float]


def step_after(held: float) -> float:
    """Returns the busy handler's sleep that is in progress after so many seconds."""
    return next(step for step, tried in zip(BACK_OFF, accumulate(BACK_OFF), strict=True) if tried >= held)


RULES: dict[str, Rule] = {
    "ours": lambda held, _: delay_after_hold(held),
    "just one sleep": lambda held, _: step_after(held),
    "half a sleep": lambda held, _: step_after(held) / 2,
    "as long as held": lambda held, _: held,
    "at random, up to as long as held": lambda held, draw: held * draw.random(),
    "2 ms": lambda _held, _: 0.002,
}


def main() -> None:
    """Print one line a rule."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--hold", type=float, default=15.0)
    arguments.add_argument("--rounds", type=int, default=1000)
    given = arguments.parse_args()
    print(f"{'rest':34} share of time     p50     p99   p99.9  p99.99  longest")
    for name, rule in RULES.items():
        share, waits = simulated(given.hold / 1000, rule, given.rounds)
        told = "".join(f"{percentile(waits, one) * 1000:8.1f}" for one in (0.5, 0.99, 0.999, 0.9999, 1.0))
        print(f"{name:34} {share:13.2f}{told}")


def simulated(hold: float, rule: Rule, rounds: int) -> tuple[float, list[float]]:
    """The share of time in which the lock is ours, and how long each of many waited, in seconds."""
    draw, waits, ours, all_time = random.Random(1), [], 0.0, 0.0
    for _ in range(rounds):
        turns, now = [], 0.0
        for _ in range(TURNS):
            held = hold * draw.uniform(0.85, 1.1)
            turns.append((now, now + held))
            ours += held
            now += held + rule(held, draw) + draw.uniform(0.0001, 0.0004)
        all_time += now
        waits += [waited(turns, draw) for _ in range(WAITERS)]
    return ours / all_time, waits


def waited(turns: list[tuple[float, float]], draw: random.Random) -> float:
    """Of one who comes at a random moment."""
    began = now = draw.uniform(0.0, turns[TURNS // 5][0])
    sleeps = iter((*BACK_OFF, *[BACK_OFF[-1]] * 1000))
    while now < turns[bisect_right(turns, (now, float("inf"))) - 1][1]:
        now += next(sleeps) + draw.expovariate(1 / 0.0003)
    return now - began


if __name__ == "__main__":
    main()
