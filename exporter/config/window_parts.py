"""Windows of the file: checked against the actions and the time zones, then made into values."""

from collections.abc import Iterator, Mapping, Sequence

from actions.policy.windows import Window
from actions.runner.catalogue import KNOWN
from exporter.config.problems import Problem, unknown
from exporter.config.schema import File, RulePart, SchedulePart
from exporter.config.zones import zone_problems

# Words of the whole contract: a window for an action that this version does not have restricts nothing, and harms nothing.
ACTION_WORDS = (
    "checkpoint", "backup", "verify", "drill", "restore", "prune", "vacuum", "analyze", "optimize", "integrity",
    "requeue", "purge",
)  # fmt: skip


def windows(file: File) -> Mapping[str, Window]:
    """The window of each action, of a part without problems."""
    return {name: _window(text, file.timezone or "UTC") for name, text in file.actions.windows.items()}


def problems(file: File) -> Iterator[Problem]:
    """What is wrong with the windows, and with the time zone that they are in."""
    for name, text in file.actions.windows.items():
        if name not in ACTION_WORDS:
            yield Problem(("actions", "windows", name), unknown("an action", name, ACTION_WORDS))
        begins, _, ends = text.partition("-")
        if begins == ends:
            yield Problem(
                ("actions", "windows", name), f'"{text}" ends when it begins; for the whole day write 00:00-24:00'
            )
    yield from zone_problems(file.timezone, ("timezone",))


def warnings(file: File) -> Iterator[Problem]:
    """What would ask in vain: an action that needs a window and has none, a window of one that never runs by itself."""
    asking: tuple[tuple[str, Sequence[RulePart | SchedulePart]], ...] = (
        ("rules", file.rules),
        ("schedules", file.schedules),
    )
    for kind, parts in asking:
        for i, part in enumerate(parts):
            if part.do in KNOWN and KNOWN[part.do].windowed and part.do not in file.actions.windows:
                cure = f'add actions: {{windows: {{{part.do}: "02:00-04:00"}}}}'
                yield Problem(
                    (kind, i, "do"), f"{part.do} runs by itself only inside a window, and none is configured; {cure}"
                )
    for name in file.actions.windows:
        if name in KNOWN and not KNOWN[name].automatic:
            yield Problem(("actions", "windows", name), f"{name} never runs by itself; its window restricts nothing")


def _window(text: str, zone: str) -> Window:
    begins, _, ends = text.partition("-")
    return Window(_minutes(begins), _minutes(ends), zone)


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)
