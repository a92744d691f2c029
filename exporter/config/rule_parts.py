"""Rules of the file: checked against declared metrics and known actions, then made into values."""

from collections.abc import Collection, Iterator, Mapping

from actions.model.condition import Condition
from actions.model.options import OptionKind, complaints
from actions.model.request import Option
from actions.policy.matchers import Matcher, parse
from actions.policy.rules import Radius, Rule
from collectors.metric import Metric
from exporter.config.problems import Problem, unknown
from exporter.config.schema import BoundPart, RadiusPart, RulePart, SchedulePart
from exporter.config.sizes import parse_duration
from exporter.config.yaml_positions import Loc


def problems(
    part: RulePart,
    loc: Loc,
    actions: Mapping[str, Mapping[str, OptionKind]],
    metrics: Mapping[str, Metric],
    databases: Collection[str] | None,
) -> Iterator[Problem]:
    """What is wrong with one rule. `databases` are the configured names; None when a glob makes them unknown."""
    (name, bound), *_ = part.when.items()
    yield from _metric_problems(name, bound, (*loc, "when", name), metrics)
    yield from _bound_problems(bound, (*loc, "when", name))
    yield from action_problems(part, loc, actions)
    yield from _start_problems(part, loc)
    yield from database_problems(part, loc, databases)


def rule(part: RulePart, kinds: Mapping[str, OptionKind], radius: RadiusPart) -> Rule:
    """The Rule of a part without problems. `kinds`: of its action's options; `radius`: where it has none of its own."""
    (metric, bound), *_ = part.when.items()
    return Rule(
        name=part.name,
        condition=Condition(metric, bound.above, bound.below, bound.clear, bound.absent, dict(bound.where)),
        action=part.do,
        options=options(part.options, kinds),
        hold=None if part.on.threshold is None else part.on.threshold.for_,
        alerts=tuple(parse(text) for text in part.on.alert),
        cooldown=part.cooldown,
        databases=tuple(part.databases),
        priority=part.priority,
        radius=Radius(**(part.blast_radius or radius).model_dump()),
    )


def _metric_problems(name: str, bound: BoundPart, loc: Loc, metrics: Mapping[str, Metric]) -> Iterator[Problem]:
    metric = metrics.get(name)
    if metric is None:
        yield Problem(loc, unknown("a metric of a database", name, metrics))
        return
    for label in bound.where:
        if label not in metric.labels:
            yield Problem((*loc, "where", label), unknown(f"a label of {name}", label, metric.labels))


def _bound_problems(bound: BoundPart, loc: Loc) -> Iterator[Problem]:
    given = [word for word in ("above", "below", "absent") if getattr(bound, word) is not None]
    if len(given) != 1:
        found = f"`{'` and `'.join(given)}` are given" if given else "none is given"
        yield Problem(loc, f"write one of `above`, `below` or `absent`: {found}")
        return
    if bound.clear is None:
        return
    if bound.absent is not None:
        yield Problem((*loc, "clear"), "`clear` goes with `above` or `below`; leave it out")
    elif bound.above is not None and bound.clear > bound.above:
        yield Problem((*loc, "clear"), f"healed at {bound.clear:g} would still be above {bound.above:g}; write less")
    elif bound.below is not None and bound.clear < bound.below:
        yield Problem((*loc, "clear"), f"healed at {bound.clear:g} would still be below {bound.below:g}; write more")


def action_problems(
    part: RulePart | SchedulePart, loc: Loc, actions: Mapping[str, Mapping[str, OptionKind]]
) -> Iterator[Problem]:
    """What is wrong with `do` and `options` of what runs by itself."""
    if part.do not in actions:
        yield Problem((*loc, "do"), unknown("an action", part.do, actions))
        return
    given = options(part.options, actions[part.do])
    for sentence in complaints(actions[part.do], given, automatic=True):
        yield Problem((*loc, "options"), sentence)


def options(given: Mapping[str, Option], kinds: Mapping[str, OptionKind]) -> Mapping[str, Option]:
    """The options in base units: seconds may be written as every other time of the file, `2s` or `1h30m`."""
    return {name: _seconds(value) if _is_time(kinds.get(name), value) else value for name, value in given.items()}


def _is_time(kind: OptionKind | None, value: Option) -> bool:
    return kind is not None and kind.kind == "seconds" and isinstance(value, str)


def _seconds(value: Option) -> Option:
    try:
        return parse_duration(value)
    except ValueError:
        return value  # `complaints` says what is wrong with it


def database_problems(part: RulePart | SchedulePart, loc: Loc, databases: Collection[str] | None) -> Iterator[Problem]:
    """Names that nobody configured; None when a glob makes the names unknown."""
    for i, database in enumerate(part.databases if databases is not None else ()):
        if database not in (databases or ()):
            yield Problem((*loc, "databases", i), unknown("a configured database", database, databases or ()))


def _start_problems(part: RulePart, loc: Loc) -> Iterator[Problem]:
    if part.on.threshold is None and not part.on.alert:
        yield Problem((*loc, "on"), "nothing can start this rule; give `threshold: {for: 1m}`, `alert: [...]` or both")
    for i, text in enumerate(part.on.alert):
        try:
            _matchers(text)
        except ValueError as error:
            yield Problem((*loc, "on", "alert", i), str(error))


def _matchers(text: str) -> tuple[Matcher, ...]:
    found = parse(text)
    if all(matcher.matches({}) for matcher in found):
        raise ValueError(f'{text} would fit every alert; name one: alertname="QueueStaleLeases"')
    return found
