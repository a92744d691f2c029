"""Queue profiles: what a profile may contain, what is compiled from it, and that it can do nothing else."""

import time
from pathlib import Path
from typing import Any, get_args

import apsw
import pytest
import yaml

from collectors.queue_profiles import detection
from collectors.queue_profiles.authorizer import AccessRules, allow_reading
from collectors.queue_profiles.compile import CompiledProfile, compile_profile
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.expression import ExpressionScope, compile_expression
from collectors.queue_profiles.row_selection import CompiledRequeue
from collectors.queue_profiles.run_queries import read_count, read_queue_names
from collectors.queue_profiles.schema import TimeFormat, load_profile, parse_profile
from collectors.queue_profiles.settings import ProfileSettings, resolve_settings
from collectors.queue_profiles.table_match import match_tables, read_tables
from collectors.queue_profiles.time_formats import epoch_sql, format_moment, is_time_sql, moment_of
from collectors.target import Target
from tests.support.scenes import prismq
from tests.support.scenes.select_and_apply import apply_all, select_all

NOW = 1_764_000_000.25
PRISMQ = detection.SHIPPED_DIRECTORY / "prismq.yaml"


def _draft(**changes: Any) -> dict[str, Any]:
    draft = yaml.safe_load(PRISMQ.read_text())
    draft.update(changes)
    return draft


def _profile(queue: prismq.Queue, **target: Any) -> CompiledProfile | None:
    return detection.detect_profile(queue.owner, Target("jobs", queue.path, **target))


def _compiled(queue: prismq.Queue, draft: dict[str, Any]) -> CompiledProfile:
    """A changed profile on this queue's tables, whether or not it fits."""
    profile = parse_profile(draft, "x")
    settings = resolve_settings(profile, {})
    return compile_profile(profile, settings, match_tables(profile, settings, read_tables(queue.owner)))


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
        (["time"], "stardate", "time: Value error, 'stardate' is no time format; known: unix_s"),
        (["actions", "requeue", "when"], "always", "actions.requeue.when: Input should be 'safe'"),
        (["settings", "grace", "default"], -1, "settings.grace: Value error, the default is a number of 0"),
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
        parse_profile(draft, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ")
    assert place in str(caught.value)


def test_unreadable_profiles_are_one_line(tmp_path: Path) -> None:
    for name, content in (("broken.yaml", b"a: [1\nb: }"), ("bytes.yaml", b"\xff\xfe\x00"), ("list.yaml", b"[1]")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ProfileError) as caught:
            load_profile(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["1; DROP TABLE t", "1 -- x", "1 /* x */", "a = ?", "a = :b", "1) OR (1", "(1", "@soon", "@ago", "@now(grace)",
     "@ago(nothing)", "$nothing", "@now:stardate", "a = 'x", "[a]"],
)  # fmt: skip
def test_expressions_cannot_leave_their_frame(text: str) -> None:
    with pytest.raises(ProfileError):
        compile_expression(text, ExpressionScope(ProfileSettings({"grace": 60.0})))


def test_tokens_inside_quotes_are_text() -> None:
    compiled = compile_expression("a = '@now; -- $x (' AND b < @now", ExpressionScope())
    assert compiled.sql == "a = '@now; -- $x (' AND b < :now_unix_s"


# --- time formats ---


@pytest.mark.parametrize(
    "form",
    get_args(TimeFormat),
)
def test_a_moment_survives_its_format(form: Any) -> None:
    coarse = form in ("unix_s", "sql_utc_s")
    with apsw.Connection(":memory:") as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (?)", (format_moment(NOW, form, "Asia/Kolkata"),))
        sql = f"SELECT {epoch_sql('min(a)', form)}, {is_time_sql('a', form)} FROM t"
        epoch, is_time = connection.execute(sql).get
        assert (moment_of(epoch, form, "Asia/Kolkata"), is_time) == (
            pytest.approx(int(NOW) if coarse else NOW, abs=0.002),
            1,
        )


# --- detection ---


def test_the_profile_is_detected(queue: prismq.Queue) -> None:
    profile = _profile(queue)
    assert profile is not None
    assert (profile.name, profile.lease_kind) == ("prismq", "lease")
    assert profile.task_states == ("waiting", "scheduled", "running", "done", "dead")


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
        assert [
            read_count(connection, bound).queues[0].rows for bound in profile.stale_count_statements(time.time())
        ] == [1]


def test_a_view_of_the_same_name_is_no_queue(tmp_path: Path) -> None:
    with apsw.Connection(str(tmp_path / "view.db")) as connection:
        columns = ", ".join(f"1 AS {name}" for name in detection.find_profile("prismq").detect["task_queue"])
        connection.execute(f"CREATE VIEW task_queue AS SELECT {columns}")
        assert detection.detect_profile(connection, Target("jobs", tmp_path / "view.db")) is None


def test_the_operators_choice_wins_and_must_exist(queue: prismq.Queue, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(_draft(name="mine")))
    selected = _profile(queue, profile=str(own))
    assert selected is not None
    assert selected.name == "mine"
    with pytest.raises(ProfileError, match=r"no profile is called 'prism'; known: generic, .*prismq"):
        _profile(queue, profile="prism")
    with pytest.raises(ProfileError, match=r"gone\.yaml: cannot be read"):
        _profile(queue, profile=str(tmp_path / "gone.yaml"))


def test_settings_of_the_operator_count_and_must_be_known(queue: prismq.Queue) -> None:
    selected = _profile(queue, settings={"grace": 5})
    assert selected is not None
    assert (selected.settings["grace"], selected.settings["worker_timeout"]) == (5.0, 300.0)
    for settings in ({"grcae": 5}, {"grace": -1}, {"grace": float("nan")}, {"grace": float("inf")}):
        with pytest.raises(ProfileError, match=r"settings\.grc?a?"):
            _profile(queue, settings=settings)


@pytest.mark.parametrize("spot", ["since", "key", "attempts", "stale_since"])
def test_columns_that_are_not_declared_are_refused(queue: prismq.Queue, spot: str) -> None:
    draft = _draft()
    draft["rows"][0 if spot == "since" else 2][spot] = "priority"
    with pytest.raises(ProfileError, match="profile prismq: column 'priority' of task_queue is not named in"):
        _compiled(queue, draft)


# --- counting ---


def test_counts_stop_at_their_bound_and_say_so(queue: prismq.Queue) -> None:
    queue.put(number=30)
    profile = _profile(queue)
    assert profile is not None
    (_, bound), *_ = profile.count_statements(time.time() + 1)
    assert read_count(queue.owner, bound, limit=30).capped is False
    capped = read_count(queue.owner, bound, limit=29)
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
    for (state, quick), (_, plain) in zip(fast.count_statements(NOW), slow.count_statements(NOW), strict=True):
        by_index, by_rows = (read_count(queue.owner, bound) for bound in (quick, plain))
        assert (state, set(by_index.queues), by_index.capped) == (state, set(by_rows.queues), by_rows.capped)
    done = dict(fast.count_statements(NOW))["done"]
    assert read_count(queue.owner, done, limit=4).capped
    assert not read_count(queue.owner, done, limit=5).capped


def test_tasks_without_a_queue_name_are_counted_too(tmp_path: Path) -> None:
    with apsw.Connection(str(tmp_path / "null.db")) as connection:
        for _ in connection.execute(prismq.SCHEMA.replace("type TEXT NOT NULL", "type TEXT")):
            pass
        queue = prismq.Queue(tmp_path / "null.db", connection)
        queue.put("completed", 4, type=None)
        queue.put("completed", 2)
        profile = _profile(queue)
        assert profile is not None
        done = read_count(connection, dict(profile.count_statements(NOW))["done"])
        assert {row.queue: row.rows for row in done.queues} == {"": 4, "mail": 2}


def test_queue_names_come_from_an_index_or_not_at_all(queue: prismq.Queue) -> None:
    for name in ("mail", "video", "zip"):
        queue.put("completed", type=name)
    profile = _profile(queue)
    assert profile is not None
    assert read_queue_names(queue.owner, profile) == {"mail", "video", "zip"}
    queue.owner.execute("DROP INDEX ix_task_type_status")
    profile = _profile(queue)
    assert profile is not None
    assert profile.queue_name_statements() == ()


def test_a_profile_reads_only_what_it_declares(queue: prismq.Queue) -> None:
    queue.put()
    queue.owner.execute("CREATE TABLE secrets (word)")
    for where in ("(SELECT count(*) FROM secrets) >= 0", "payload = ''", "(SELECT count(*) FROM sqlite_schema) > 0"):
        draft = _draft()
        draft["rows"][0]["where"] = where
        profile = _compiled(queue, draft)
        (_, bound), *_ = profile.count_statements(NOW)
        with pytest.raises(ProfileError, match=r"may not (read|call)"):
            read_count(queue.owner, bound)


def test_the_access_rules_let_nothing_write(queue: prismq.Queue) -> None:
    access = AccessRules({"task_queue": frozenset({"id", "status"})})
    for sql in (
        "DELETE FROM task_queue",
        "UPDATE task_queue SET status = 'x'",
        "PRAGMA user_version = 3",
        "ATTACH ':memory:' AS other",
        "CREATE TEMP TABLE t (a)",
        "SELECT load_extension('x')",
    ):
        with pytest.raises(ProfileError, match="may not"), allow_reading(queue.owner, access):
            queue.owner.execute(sql)
    queue.owner.execute("PRAGMA user_version = 3")  # the authorizer is removed again


# --- requeue ---


def _run_steps(queue: prismq.Queue, now: float, limit: int = 100, older_than: float | None = None) -> dict[str, int]:
    with queue.owner:
        selected = select_all(queue.owner, _requeue(queue).selections, now, older_than, limit)
        moved = apply_all(queue.owner, selected, now, older_than)
    return {"dead": moved["dead"], "waiting": moved["waiting"]}


def _stale_rows(queue: prismq.Queue, now: float, older_than: float | None = None) -> list[Any]:
    (selection,) = _requeue(queue).selections
    bound = selection.search_statement(now, older_than)
    return queue.owner.execute(bound.sql, {**bound.values, "limit": 100}).fetchall()


def test_stale_is_one_predicate_for_gauge_and_requeue(queue: prismq.Queue) -> None:
    queue.leased(NOW - 100, 3)
    queue.leased(NOW - 100, 2, status="processing")
    queue.leased(NOW - 100, 1, attempts=4)
    queue.leased(NOW - 30, 5)  # within the grace
    queue.leased(NOW + 30, 5)
    queue.put("completed", lease_until_utc=prismq.stamp(NOW - 500))
    queue.put("queued")
    profile = _profile(queue)
    assert profile is not None
    gauge = sum(
        row.rows for bound in profile.stale_count_statements(NOW) for row in read_count(queue.owner, bound).queues
    )
    stale_rows = _stale_rows(queue, NOW)
    assert gauge == len(stale_rows) == 6
    assert {row[1] for row in stale_rows} == {prismq.stamp(NOW - 100)}
    assert _run_steps(queue, NOW) == {"dead": 1, "waiting": 5}
    assert _stale_rows(queue, NOW) == []
    assert queue.value("SELECT count(*) FROM task_queue WHERE status IN ('leased', 'processing')") == 10
    back = "SELECT DISTINCT status, attempts, locked_by, lease_until_utc, updated_at_utc FROM task_queue WHERE id <= 5"
    assert queue.owner.execute(back).fetchall() == [("queued", 1, None, None, prismq.stamp(NOW))]
    dead = "SELECT status, attempts, error_message, finished_at_utc FROM task_queue WHERE id = 6"
    assert queue.owner.execute(dead).get == ("failed", 5, "lease expired", prismq.stamp(NOW))


def test_a_selected_row_is_tested_again_when_it_is_changed(queue: prismq.Queue) -> None:
    queue.leased(NOW - 100, 3)
    selected = select_all(queue.owner, _requeue(queue).selections, NOW)
    queue.owner.execute("UPDATE task_queue SET status = 'completed' WHERE id = 1")
    queue.owner.execute("UPDATE task_queue SET lease_until_utc = ? WHERE id = 2", (prismq.stamp(NOW + 60),))
    assert apply_all(queue.owner, selected, NOW)["waiting"] == 1
    assert queue.owner.execute("SELECT status FROM task_queue").fetchall() == [("completed",), ("leased",), ("queued",)]


def test_no_row_goes_through_two_steps(queue: prismq.Queue) -> None:
    draft = _draft()
    draft["actions"]["requeue"]["steps"][0]["set"] = {"attempts": "max_attempts"}  # leaves the row stale
    queue.leased(NOW - 100, 2, attempts=4)
    requeue = _compiled(queue, draft).requeue
    assert requeue is not None
    moved = apply_all(queue.owner, select_all(queue.owner, requeue.selections, NOW), NOW)
    assert (moved["dead"], moved["waiting"]) == (2, 0)
    assert queue.value("SELECT count(*) FROM task_queue WHERE status = 'leased'") == 2


def test_older_than_only_narrows(queue: prismq.Queue) -> None:
    queue.leased(NOW - 100)
    queue.leased(NOW - 1000)
    queue.leased(NOW - 30)
    assert [len(_stale_rows(queue, NOW, older)) for older in (None, 0, 10, 300, 5000)] == [2, 2, 2, 1, 0]
    assert _run_steps(queue, NOW, older_than=300)["waiting"] == 1
    assert _run_steps(queue, NOW, older_than=0)["waiting"] == 1


@pytest.mark.parametrize("value", [1_700_000_000, 0, "", "soon", None])
def test_what_is_no_time_is_never_stale(queue: prismq.Queue, value: Any) -> None:
    queue.put("leased", lease_until_utc=value)
    assert _stale_rows(queue, NOW) == []
    assert _run_steps(queue, NOW) == {"dead": 0, "waiting": 0}


def _plan(queue: prismq.Queue, sql: str, values: dict[str, Any]) -> str:
    return " ".join(row[3] for row in queue.owner.execute("EXPLAIN QUERY PLAN " + sql, values).fetchall())


def test_rows_are_searched_on_an_index_and_changed_by_key(queue: prismq.Queue) -> None:
    queue.leased(NOW - 100, 50)
    queue.put("completed", 2000)
    queue.owner.execute("ANALYZE")
    (selection,) = _requeue(queue).selections
    search = selection.search_statement(NOW)
    assert "SEARCH task_queue USING INDEX ix_task_status_prio_time" in _plan(
        queue, search.sql, {**search.values, "limit": 5}
    )
    for step in selection.bind_row_steps(NOW):
        for statement in step.statements:
            assert _plan(queue, statement, {**step.values, "key": 1, "seen": None, "holder": None}).startswith(
                "SEARCH task_queue USING INTEGER PRIMARY KEY (rowid=?)"
            )


def test_the_gate_of_the_shipped_profile_is_guarded(queue: prismq.Queue) -> None:
    requeue = _requeue(queue)
    assert (requeue.gate, requeue.may_run_twice) == ("guarded", True)
