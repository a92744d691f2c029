"""Conditions, rules, matchers and effects. All pure; the clock is an argument."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.model.condition import Condition, ConditionVerdict, Measurement
from actions.model.outcome import Effect
from actions.policy.effect import measured_effect
from actions.policy.matchers import Matcher, all_match, parse_matchers
from actions.policy.rules import ConditionWatch, Rule, advance_watch, rule_request
from collectors.metric import Metric, Sample, Since

BACKLOG = Metric("sqlite_wal_backlog_bytes", "h")
STALE = Metric("sqlite_queue_stale_leases", "h", ("queue",), fold="sum")
AGE = Metric("sqlite_backup_age_seconds", "h")
FREE = Metric("sqlite_disk_free_bytes", "h", ("role",), fold="min")

HIGH = Condition("sqlite_wal_backlog_bytes", above=64.0, clear=8.0)
RULE = Rule("wal", HIGH, "checkpoint", hold=60.0, cooldown=600.0)


def stepped(rule: Rule, watch: ConditionWatch, samples: Sequence[Sample], now: float) -> tuple[ConditionWatch, bool]:
    """One poll whose collectors could read all there is."""
    return advance_watch(rule, watch, Measurement(rule.condition.value_from(samples, now)), now)


def test_counts_are_summed_over_the_labels_and_free_space_takes_the_smallest() -> None:
    assert Condition("sqlite_queue_stale_leases", above=0).value_from([STALE(2, "mail"), STALE(3, "video")], 0) == 5
    assert Condition("sqlite_disk_free_bytes", below=9).value_from([FREE(5, "temp"), FREE(7, "state")], 0) == 5


def test_where_keeps_only_the_named_label_values() -> None:
    only_mail = Condition("sqlite_queue_stale_leases", above=0, where={"queue": "mail"})
    assert only_mail.value_from([STALE(2, "mail"), STALE(3, "video")], 0) == 2
    assert only_mail.value_from([STALE(3, "video")], 0) is None


def test_an_age_grows_between_the_reading_and_the_look() -> None:
    assert Condition("sqlite_backup_age_seconds", above=1).value_from([AGE(Since(1000.0))], 1090.0) == 90.0


def test_an_age_is_never_negative_when_the_clock_jumped_back() -> None:
    assert AGE(Since(1000.0)).value_at(900.0) == 0.0


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (64.1, ConditionVerdict.WRONG),
        (64.0, ConditionVerdict.BETWEEN),
        (8.1, ConditionVerdict.BETWEEN),
        (8.0, ConditionVerdict.CLEAR),
        (None, ConditionVerdict.UNKNOWN),
    ],
)
def test_the_bound_and_the_clear_level_are_edges(value: float | None, verdict: ConditionVerdict) -> None:
    assert HIGH.judge_measurement(Measurement(value)) is verdict


@pytest.mark.parametrize(
    ("value", "verdict"), [(9.9, ConditionVerdict.WRONG), (10, ConditionVerdict.BETWEEN), (20, ConditionVerdict.CLEAR)]
)
def test_below_is_the_mirror_of_above(value: float, verdict: ConditionVerdict) -> None:
    assert Condition("sqlite_disk_free_bytes", below=10, clear=20).judge_measurement(Measurement(value)) is verdict


def test_without_a_clear_level_back_within_the_bound_is_healed() -> None:
    assert Condition("sqlite_queue_stale_leases", above=0).judge_measurement(Measurement(0)) is ConditionVerdict.CLEAR


def test_a_rule_requests_only_after_its_condition_held_for_long_enough() -> None:
    watch, due = stepped(RULE, ConditionWatch(), [BACKLOG(100)], 1000.0)
    assert (watch, due) == (ConditionWatch(1000.0), False)
    assert stepped(RULE, watch, [BACKLOG(100)], 1059.9) == (watch, False)
    assert stepped(RULE, watch, [BACKLOG(100)], 1060.0) == (watch, True)


def test_an_unreadable_value_neither_starts_nor_ends_anything() -> None:
    assert stepped(RULE, ConditionWatch(), [], 1000.0) == (ConditionWatch(), False)
    assert stepped(RULE, ConditionWatch(900.0), [], 2000.0) == (ConditionWatch(900.0), False)


def test_between_bound_and_clear_level_a_trouble_goes_on_but_none_begins() -> None:
    assert stepped(RULE, ConditionWatch(), [BACKLOG(30)], 1000.0) == (ConditionWatch(), False)
    assert stepped(RULE, ConditionWatch(900.0), [BACKLOG(30)], 1000.0) == (ConditionWatch(900.0), True)
    assert stepped(RULE, ConditionWatch(900.0), [BACKLOG(8)], 1000.0) == (ConditionWatch(), False)


def test_a_rule_without_a_threshold_never_requests_on_a_reading() -> None:
    rule = Rule("wal", HIGH, "checkpoint")
    assert stepped(rule, ConditionWatch(1.0), [BACKLOG(100)], 1e9)[1] is False


def test_a_clock_that_jumped_back_does_not_keep_a_rule_waiting_for_the_jump() -> None:
    watch, _ = stepped(RULE, ConditionWatch(5000.0), [BACKLOG(100)], 1000.0)
    assert stepped(RULE, watch, [BACKLOG(100)], 1060.0)[1] is True


def test_a_request_carries_the_rules_own_condition_action_and_options() -> None:
    rule = Rule("stale", HIGH, "requeue", {"limit": 5}, cooldown=7.0)
    made = rule_request(rule, "jobs", "alert", "ab12/1")
    assert (made.action, made.options, made.condition, made.episode, made.cooldown) == (
        "requeue",
        {"limit": 5},
        HIGH,
        "ab12/1",
        7.0,
    )
    assert made.is_automatic


def test_an_alert_starts_a_rule_when_all_matchers_of_one_of_its_lists_match() -> None:
    lists = (parse_matchers('alertname="Backlog", severity="page"'), parse_matchers('alertname="Pinned"'))
    rule = Rule("wal", HIGH, "checkpoint", alerts=lists)
    assert rule.is_started_by({"alertname": "Backlog", "severity": "page"})
    assert rule.is_started_by({"alertname": "Pinned", "severity": "info"})
    assert not rule.is_started_by({"alertname": "Backlog", "severity": "info"})
    assert not RULE.is_started_by({"alertname": "Backlog"})


@pytest.mark.parametrize(
    ("before", "after", "blocked", "expected"),
    [
        (100, 8, False, Effect.FIXED),
        (100, 9, False, Effect.NO_EFFECT),
        (100, 100, False, Effect.NO_EFFECT),
        (100, 101, False, Effect.WORSE),
        (100, None, False, Effect.UNKNOWN),
        (None, 5, False, Effect.UNKNOWN),
        (100, 5, True, Effect.BLOCKED),
    ],
)
def test_only_a_reading_at_the_clear_level_counts_as_fixed(
    before: float | None, after: float | None, blocked: bool, expected: Effect
) -> None:
    assert measured_effect(HIGH, Measurement(before), Measurement(after), blocked=blocked) is expected


def test_for_a_lower_bound_less_is_worse() -> None:
    low = Condition("sqlite_disk_free_bytes", below=10, clear=20)
    assert measured_effect(low, Measurement(5), Measurement(4), blocked=False) is Effect.WORSE
    assert measured_effect(low, Measurement(5), Measurement(6), blocked=False) is Effect.NO_EFFECT
    assert measured_effect(low, Measurement(5), Measurement(20), blocked=False) is Effect.FIXED


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ('alertname="A"', {"alertname": "A"}, True),
        ('alertname="A"', {"alertname": "B"}, False),
        ('alertname="A", severity!="page"', {"alertname": "A", "severity": "info"}, True),
        ('{alertname=~"Queue.*"}', {"alertname": "QueueStaleLeases"}, True),
        ('alertname=~"Queue"', {"alertname": "QueueStaleLeases"}, False),
        ('team!~"a|b"', {"team": "c"}, True),
        ('missing=""', {}, True),
        ('alertname="A", severity="page"', {"alertname": "A", "severity": "info"}, False),
        ('alertname="A",severity="page"', {"alertname": "A", "severity": "page"}, True),
        ("alertname=A", {"alertname": "A"}, True),
        ('summary="a \\"b\\" \\\\ c"', {"summary": 'a "b" \\ c'}, True),
    ],
)
def test_matchers_follow_alertmanagers_syntax(text: str, labels: dict[str, str], matches: bool) -> None:
    assert all_match(parse_matchers(text), labels) is matches


@pytest.mark.parametrize(
    "text", ["", "alertname", '="x"', 'a=~"("', 'a="x" b="y"', 'a="x";b="y"', "{}", "{a=b", "a=b}", 'a="x']
)
def test_a_bad_matcher_is_an_error_and_not_a_match(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_matchers(text)


@given(st.text(max_size=30))
def test_any_label_value_matches_itself_when_quoted(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert parse_matchers(f'a="{quoted}"') == (Matcher("a", "=", value),)
