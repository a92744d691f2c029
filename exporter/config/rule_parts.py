"""Checks the rules of the file against the declared metrics and known actions, and builds Rule values."""

from collections.abc import Collection, Iterator, Mapping

from actions.model.condition import Condition
from actions.model.options import ActionOption, option_problems
from actions.model.request import Option
from actions.policy.matchers import Matcher, parse_matchers
from actions.policy.rules import BlastRadius, Rule
from collectors.metric import Metric
from exporter.config.problems import ConfigProblem, unknown_name
from exporter.config.schema import BoundPart, RadiusPart, RulePart, SchedulePart
from exporter.config.sizes import parse_duration
from exporter.config.yaml_positions import Loc


def rule_problems(
    part: RulePart,
    loc: Loc,
    actions: Mapping[str, Mapping[str, ActionOption]],
    metrics: Mapping[str, Metric],
    databases: Collection[str] | None,
) -> Iterator[ConfigProblem]:
    """The errors of one rule. `databases` are the configured names; None when a glob makes them unknown."""
    (name, bound), *_ = part.when.items()
    yield from _metric_problems(name, bound, (*loc, "when", name), metrics)
    yield from _bound_problems(bound, (*loc, "when", name))
    yield from action_problems(part, loc, actions)
    yield from _start_problems(part, loc)
    yield from database_problems(part, loc, databases)


def build_rule(part: RulePart, kinds: Mapping[str, ActionOption], radius: RadiusPart) -> Rule:
    """The Rule of a part without errors. `kinds`: its action's options; `radius`: for a rule without its own blast radius."""
    (metric, bound), *_ = part.when.items()
    return Rule(
        name=part.name,
        condition=Condition(metric, bound.above, bound.below, bound.clear, bound.absent, dict(bound.where)),
        action=part.do,
        options=options_in_base_units(part.options, kinds),
        hold=None if part.on.threshold is None else part.on.threshold.for_,
        alerts=tuple(parse_matchers(text) for text in part.on.alert),
        cooldown=part.cooldown,
        databases=tuple(part.databases),
        priority=part.priority,
        radius=BlastRadius(**(part.blast_radius or radius).model_dump()),
    )


def _metric_problems(name: str, bound: BoundPart, loc: Loc, metrics: Mapping[str, Metric]) -> Iterator[ConfigProblem]:
    metric = metrics.get(name)
    if metric is None:
        yield ConfigProblem(loc, unknown_name("a metric of a database", name, metrics))
        return
    for label in bound.where:
        if label not in metric.labels:
            yield ConfigProblem((*loc, "where", label), unknown_name(f"a label of {name}", label, metric.labels))


def _bound_problems(bound: BoundPart, loc: Loc) -> Iterator[ConfigProblem]:
    given = [word for word in ("above", "below", "absent") if getattr(bound, word) is not None]
    if len(given) != 1:
        given_words = f"`{'` and `'.join(given)}` are given" if given else "none is given"
        yield ConfigProblem(loc, f"write one of `above`, `below` or `absent`: {given_words}")
        return
    if bound.clear is None:
        return
    if bound.absent is not None:
        yield ConfigProblem((*loc, "clear"), "`clear` goes with `above` or `below`; leave it out")
    elif bound.above is not None and bound.clear > bound.above:
        yield ConfigProblem(
            (*loc, "clear"), f"healed at {bound.clear:g} would still be above {bound.above:g}; write less"
        )
    elif bound.below is not None and bound.clear < bound.below:
        yield ConfigProblem(
            (*loc, "clear"), f"healed at {bound.clear:g} would still be below {bound.below:g}; write more"
        )


def action_problems(
    part: RulePart | SchedulePart, loc: Loc, actions: Mapping[str, Mapping[str, ActionOption]]
) -> Iterator[ConfigProblem]:
    """The errors of `do` and `options` of a rule or schedule."""
    if part.do not in actions:
        yield ConfigProblem((*loc, "do"), unknown_name("an action", part.do, actions))
        return
    given = options_in_base_units(part.options, actions[part.do])
    for sentence in option_problems(actions[part.do], given, automatic=True):
        yield ConfigProblem((*loc, "options"), sentence)


def options_in_base_units(given: Mapping[str, Option], kinds: Mapping[str, ActionOption]) -> Mapping[str, Option]:
    """The options in base units: seconds may be written like every other duration of the file, `2s` or `1h30m`."""
    return {
        name: _parse_seconds(value) if _is_duration_text(kinds.get(name), value) else value
        for name, value in given.items()
    }


def _is_duration_text(kind: ActionOption | None, value: Option) -> bool:
    return kind is not None and kind.kind == "seconds" and isinstance(value, str)


def _parse_seconds(value: Option) -> Option:
    try:
        return parse_duration(value)
    except ValueError:
        return value  # `complaints` says what is wrong with it


def database_problems(
    part: RulePart | SchedulePart, loc: Loc, databases: Collection[str] | None
) -> Iterator[ConfigProblem]:
    """The names in `databases` that are not configured. `databases` is None when a glob makes the names unknown."""
    for i, database in enumerate(part.databases if databases is not None else ()):
        if database not in (databases or ()):
            yield ConfigProblem(
                (*loc, "databases", i), unknown_name("a configured database", database, databases or ())
            )


def _start_problems(part: RulePart, loc: Loc) -> Iterator[ConfigProblem]:
    if part.on.threshold is None and not part.on.alert:
        yield ConfigProblem(
            (*loc, "on"), "no trigger can start this rule; give `threshold: {for: 1m}`, `alert: [...]` or both"
        )
    for i, text in enumerate(part.on.alert):
        try:
            _parse_matchers(text)
        except ValueError as error:
            yield ConfigProblem((*loc, "on", "alert", i), str(error))


def _parse_matchers(text: str) -> tuple[Matcher, ...]:
    matchers = parse_matchers(text)
    if all(matcher.matches({}) for matcher in matchers):
        raise ValueError(f'{text} would match every alert; name one: alertname="QueueStaleLeases"')
    return matchers
