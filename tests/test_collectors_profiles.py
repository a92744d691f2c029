"""Queue profiles: what may be said in one, what is compiled from it, and that it can do nothing else."""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import prismq
import pytest
import yaml

from collectors.queue_profiles import detect
from collectors.queue_profiles.compile import CompiledProfile, CompiledRequeue, compiled
from collectors.queue_profiles.expression import expression
from collectors.queue_profiles.fence import reading
from collectors.queue_profiles.rows import counted, queue_names
from collectors.queue_profiles.schema import Profile, ProfileError, load, parse
from collectors.queue_profiles.time_formats import epoch_sql, is_time_sql, written
from collectors.target import Target

NOW = 1_764_000_000.25
PRISMQ = detect.SHIPPED / "prismq.yaml"


def _draft(**changes: Any) -> dict[str, Any]:
    draft = yaml.safe_load(PRISMQ.read_text())
    draft.update(changes)
    return draft


def _profile(queue: prismq.Queue, **target: Any) -> CompiledProfile | None:
    return detect.profile_for(queue.owner, Target("jobs", queue.path, **target))


def _requeue(queue: prismq.Queue, **target: Any) -> CompiledRequeue:
    profile = _profile(queue, **target)
    assert profile is not None
    assert profile.requeue is not None
    return profile.requeue


# --- schema ---


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (["rows", 0, "state"], "sleeping", "rows[0].state: Input should be 'waiting'"),
        (["rows", 0, "wehre"], "1", "rows[0].wehre: Extra inputs are not permitted"),
        (["time"], "stardate", "time: Input should be 'unix_s'"),
        (["actions", "requeue", "when"], "always", "actions.requeue.when: Input should be 'safe'"),
        (["settings", "grace", "default"], -1, "settings.grace.default: Input should be greater than or equal to 0"),
        (
            ["actions", "requeue", "steps", 0, "set"],
            {},
            "actions.requeue.steps[0].set: Dictionary should have at least 1",
        ),
        (["rows", 2, "stale_since"], None, "rows[2]: Value error, `stale` and `stale_since` belong together"),
        (["rows", 2, "key"], None, "requeue needs the `key` of the row set with `stale`"),
        (["detect"], {'x"; DROP TABLE t': ["a"]}, "String should match pattern"),
    ],
)
def test_mistakes_in_a_profile_are_named_with_their_place(path: list[Any], value: Any, place: str) -> None:
    draft = _draft()
    spot = draft
    for step in path[:-1]:
        spot = spot[step]
    spot[path[-1]] = value
    with pytest.raises(ProfileError) as caught:
        parse(draft, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ")
    assert place in str(caught.value)


def test_unreadable_profiles_are_one_line(tmp_path: Path) -> None:
    for name, content in (("broken.yaml", b"a: [1\nb: }"), ("bytes.yaml", b"\xff\xfe\x00"), ("list.yaml", b"[1]")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ProfileError) as caught:
            load(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["1; DROP TABLE t", "1 -- x", "1 /* x */", "a = ?", "a = :b", "1) OR (1", "(1", "@soon", "@ago", "@now(grace)",
     "@ago(nothing)", "$nothing", "@now:stardate", "a = 'x", "[a]"],
)  # fmt: skip
def test_expressions_cannot_leave_their_frame(text: str) -> None:
    with pytest.raises(ProfileError):
        expression(text, {"grace": 60.0}, "unix_s")


def test_tokens_inside_quotes_are_text() -> None:
    made = expression("a = '@now; -- $x (' AND b < @now", {}, "unix_s")
    assert made.sql == "a = '@now; -- $x (' AND b < :now_unix_s"


# --- time formats ---


@pytest.mark.parametrize(
    "form",
    ["unix_s", "unix_f", "unix_ms", "unix_us", "unix_ns", "sql_utc", "sql_utc_s", "sql_utc_ms", "iso_utc", "iso_utc_z"],
)
def test_a_moment_survives_its_format(form: Any) -> None:
    coarse = form in ("unix_s", "sql_utc_s")
    with apsw.Connection(":memory:") as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (?)", (written(NOW, form),))
        sql = f"SELECT {epoch_sql('min(a)', form)}, {is_time_sql('a', form)} FROM t"
        assert connection.execute(sql).get == (pytest.approx(int(NOW) if coarse else NOW, abs=0.002), 1)


# --- detection ---


def test_the_layout_is_found_by_itself(queue: prismq.Queue) -> None:
    profile = _profile(queue)
    assert profile is not None
    assert (profile.name, profile.lease_kind) == ("prismq", "lease")
    assert profile.states == ("waiting", "scheduled", "running", "done", "dead")


def test_one_missing_column_is_no_match_and_is_named(queue: prismq.Queue) -> None:
    queue.owner.execute("ALTER TABLE task_queue RENAME COLUMN lease_until_utc TO lease_end")
    assert _profile(queue) is None
    with pytest.raises(
        ProfileError, match=r"profile prismq does not fit .*: table task_queue has no column lease_until"
    ):
        _profile(queue, profile="prismq")


def test_another_case_of_names_is_the_same_layout(tmp_path: Path) -> None:
    with apsw.Connection(str(tmp_path / "upper.db")) as connection:
        for _ in connection.execute(
            prismq.SCHEMA.replace("task_queue", "TASK_QUEUE").replace(" attempts", " Attempts")
        ):
            pass
        queue = prismq.Queue(tmp_path / "upper.db", connection)
        queue.leased(time.time() - 500)
        profile = _profile(queue)
        assert profile is not None
        assert [counted(connection, profile, bound).queues[0].rows for bound in profile.stale(time.time())] == [1]


def test_a_view_of_the_same_name_is_no_queue(tmp_path: Path) -> None:
    with apsw.Connection(str(tmp_path / "view.db")) as connection:
        columns = ", ".join(f"1 AS {name}" for name in detect.named("prismq").detect["task_queue"])
        connection.execute(f"CREATE VIEW task_queue AS SELECT {columns}")
        assert detect.profile_for(connection, Target("jobs", tmp_path / "view.db")) is None


def test_the_operators_choice_wins_and_must_exist(queue: prismq.Queue, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(_draft(name="mine")))
    chosen = _profile(queue, profile=str(own))
    assert chosen is not None
    assert chosen.name == "mine"
    with pytest.raises(ProfileError, match="no profile is called 'prism'; known: prismq"):
        _profile(queue, profile="prism")
    with pytest.raises(ProfileError, match=r"gone\.yaml: cannot be read"):
        _profile(queue, profile=str(tmp_path / "gone.yaml"))


def test_settings_of_the_operator_count_and_must_be_known(queue: prismq.Queue) -> None:
    chosen = _profile(queue, settings={"grace": 5})
    assert chosen is not None
    assert chosen.settings == {"grace": 5.0}
    for settings in ({"grcae": 5}, {"grace": -1}, {"grace": float("nan")}, {"grace": float("inf")}):
        with pytest.raises(ProfileError, match=r"settings\.grc?a?"):
            _profile(queue, settings=settings)


@pytest.mark.parametrize("spot", ["since", "key", "attempts", "stale_since"])
def test_columns_that_are_not_declared_are_refused(spot: str) -> None:
    draft = _draft()
    draft["rows"][0 if spot == "since" else 2][spot] = "priority"
    with pytest.raises(ProfileError, match="profile prismq: column 'priority' is not named in `detect`"):
        compiled(parse(draft, "x"), {})


# --- counting ---


def test_counts_stop_at_their_bound_and_say_so(queue: prismq.Queue) -> None:
    queue.put(number=30)
    profile = _profile(queue)
    assert profile is not None
    (_, bound), *_ = profile.counts(time.time() + 1)
    assert counted(queue.owner, profile, bound, rows=30).capped is False
    capped = counted(queue.owner, profile, bound, rows=29)
    assert capped.capped is True
    assert capped.queues[0].rows == 30


def test_an_index_counts_the_same_as_the_rows_do(queue: prismq.Queue) -> None:
    for kind, number in (("mail", 3), ("video", 5), ("", 2)):
        for status in prismq.ENDED:
            queue.put(status, number, type=kind)
    fast = _profile(queue)
    queue.owner.execute("DROP INDEX ix_task_type_status")
    slow = _profile(queue)
    assert fast is not None
    assert slow is not None
    assert [rows.state for rows in fast.rows if rows.by_queue] == ["running", "done", "dead"]
    assert not any(rows.by_queue for rows in slow.rows)
    queue.owner.execute("CREATE INDEX ix_task_type_status ON task_queue(type, status)")
    for (state, quick), (_, plain) in zip(fast.counts(NOW), slow.counts(NOW), strict=True):
        left, right = (counted(queue.owner, profile, bound) for profile, bound in ((fast, quick), (slow, plain)))
        assert (state, set(left.queues), left.capped) == (state, set(right.queues), right.capped)
    done = dict(fast.counts(NOW))["done"]
    assert counted(queue.owner, fast, done, rows=4).capped
    assert not counted(queue.owner, fast, done, rows=5).capped


def test_tasks_without_a_queue_name_are_counted_too(tmp_path: Path) -> None:
    with apsw.Connection(str(tmp_path / "null.db")) as connection:
        for _ in connection.execute(prismq.SCHEMA.replace("type TEXT NOT NULL", "type TEXT")):
            pass
        queue = prismq.Queue(tmp_path / "null.db", connection)
        queue.put("completed", 4, type=None)
        queue.put("completed", 2)
        profile = _profile(queue)
        assert profile is not None
        done = counted(connection, profile, dict(profile.counts(NOW))["done"])
        assert {row.queue: row.rows for row in done.queues} == {"": 4, "mail": 2}


def test_queue_names_come_from_an_index_or_not_at_all(queue: prismq.Queue) -> None:
    for name in ("mail", "video", "zip"):
        queue.put("completed", type=name)
    profile = _profile(queue)
    assert profile is not None
    assert queue_names(queue.owner, profile) == {"mail", "video", "zip"}
    queue.owner.execute("DROP INDEX ix_task_type_status")
    profile = _profile(queue)
    assert profile is not None
    assert profile.queues() == ()


def test_a_profile_reads_only_what_it_declares(queue: prismq.Queue) -> None:
    queue.put()
    for where in ("(SELECT count(*) FROM workers) >= 0", "payload = ''", "(SELECT count(*) FROM sqlite_schema) > 0"):
        draft = _draft()
        draft["rows"][0]["where"] = where
        profile = compiled(parse(draft, "x"), {})
        (_, bound), *_ = profile.counts(NOW)
        with pytest.raises((apsw.AuthError, apsw.SQLError), match=r"not authorized|prohibited"):
            counted(queue.owner, profile, bound)


def test_the_fence_lets_nothing_write(queue: prismq.Queue) -> None:
    readable = {"task_queue": frozenset({"id", "status"})}
    for sql in (
        "DELETE FROM task_queue",
        "UPDATE task_queue SET status = 'x'",
        "PRAGMA user_version = 3",
        "ATTACH ':memory:' AS other",
        "CREATE TEMP TABLE t (a)",
        "SELECT load_extension('x')",
    ):
        with (
            reading(queue.owner, readable),
            pytest.raises((apsw.AuthError, apsw.SQLError), match=r"authorized|prohibit"),
        ):
            queue.owner.execute(sql)
    queue.owner.execute("PRAGMA user_version = 3")  # the fence is gone again


# --- requeue ---


def _run_steps(queue: prismq.Queue, now: float, limit: int = 100, older_than: float | None = None) -> dict[str, int]:
    moved = {"dead": 0, "waiting": 0}
    with queue.owner:
        for step in _requeue(queue).steps(now, older_than):
            queue.owner.execute(step.update.sql, {**step.update.values, "limit": limit})
            moved[step.to] += queue.owner.changes()
    return moved


def _victims(queue: prismq.Queue, now: float, older_than: float | None = None) -> list[Any]:
    bound = _requeue(queue).victims(now, older_than)
    return queue.owner.execute(bound.sql, {**bound.values, "limit": 100}).fetchall()


def test_stale_is_one_predicate_for_gauge_victims_and_requeue(queue: prismq.Queue) -> None:
    queue.leased(NOW - 100, 3)
    queue.leased(NOW - 100, 2, status="processing")
    queue.leased(NOW - 100, 1, attempts=4)
    queue.leased(NOW - 30, 5)  # within the grace
    queue.leased(NOW + 30, 5)
    queue.put("completed", lease_until_utc=prismq.stamp(NOW - 500))
    queue.put("queued")
    profile = _profile(queue)
    assert profile is not None
    gauge = sum(row.rows for bound in profile.stale(NOW) for row in counted(queue.owner, profile, bound).queues)
    victims = _victims(queue, NOW)
    assert gauge == len(victims) == 6
    assert {row[3] for row in victims} == {float(int(NOW - 100))}
    assert _run_steps(queue, NOW) == {"dead": 1, "waiting": 5}
    assert _victims(queue, NOW) == []
    assert queue.value("SELECT count(*) FROM task_queue WHERE status IN ('leased', 'processing')") == 10
    back = "SELECT DISTINCT status, attempts, locked_by, lease_until_utc, updated_at_utc FROM task_queue WHERE id <= 5"
    assert queue.owner.execute(back).fetchall() == [("queued", 1, None, None, prismq.stamp(NOW))]
    dead = "SELECT status, attempts, error_message, finished_at_utc FROM task_queue WHERE id = 6"
    assert queue.owner.execute(dead).get == ("failed", 5, "lease expired", prismq.stamp(NOW))


def test_a_limited_step_never_hands_its_rows_to_the_next_one(queue: prismq.Queue) -> None:
    queue.leased(NOW - 100, 5, attempts=4)
    queue.leased(NOW - 100, 5)
    assert _run_steps(queue, NOW, limit=2) == {"dead": 2, "waiting": 2}
    assert queue.value("SELECT count(*) FROM task_queue WHERE status = 'queued' AND attempts > 4") == 0
    assert _run_steps(queue, NOW, limit=100) == {"dead": 3, "waiting": 3}


def test_older_than_only_narrows(queue: prismq.Queue) -> None:
    queue.leased(NOW - 100)
    queue.leased(NOW - 1000)
    queue.leased(NOW - 30)
    assert [len(_victims(queue, NOW, older)) for older in (None, 0, 10, 300, 5000)] == [2, 2, 2, 1, 0]
    assert _run_steps(queue, NOW, older_than=300)["waiting"] == 1
    assert _run_steps(queue, NOW, older_than=0)["waiting"] == 1


@pytest.mark.parametrize("value", [1_700_000_000, 0, "", "soon", None])
def test_what_is_no_time_is_never_stale(queue: prismq.Queue, value: Any) -> None:
    queue.put("leased", lease_until_utc=value)
    assert _victims(queue, NOW) == []
    assert _run_steps(queue, NOW) == {"dead": 0, "waiting": 0}


def test_requeue_stops_at_its_limit_on_an_index(queue: prismq.Queue) -> None:
    queue.leased(NOW - 100, 50)
    queue.put("completed", 2000)
    queue.owner.execute("ANALYZE")
    for step in _requeue(queue).steps(NOW):
        plan = queue.owner.execute(
            "EXPLAIN QUERY PLAN " + step.update.sql, {**step.update.values, "limit": 5}
        ).fetchall()
        text = " ".join(row[3] for row in plan)
        assert "ix_task_status_prio_time" in text
        assert "SCAN" not in text
        assert "TEMP B-TREE" not in text


def test_the_gate_of_the_shipped_profile_is_guarded(queue: prismq.Queue) -> None:
    requeue = _requeue(queue)
    assert (requeue.gate, requeue.may_run_twice) == ("guarded", True)


def test_every_shipped_profile_compiles(make_queue: Callable[..., prismq.Queue]) -> None:
    for profile in detect.shipped():
        assert isinstance(profile, Profile)
        assert compiled(profile, {}).name == profile.name
        assert copy.deepcopy(profile) == profile
