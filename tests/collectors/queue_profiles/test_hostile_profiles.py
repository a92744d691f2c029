"""Hostile or damaged profiles: they never crash us, never write, never read what they do not declare."""

import copy
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.queue_profiles import detection
from collectors.queue_profiles.authorizer import allow_reading
from collectors.queue_profiles.compile import CompiledProfile, compile_profile
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.run_queries import count_workers, read_count, read_heads, read_last_numbers
from collectors.queue_profiles.schema import parse_profile
from collectors.queue_profiles.settings import required_settings, resolve_settings
from collectors.queue_profiles.table_match import match_tables, read_tables
from tests.support.scenes import prismq, queue_files
from tests.support.scenes.select_and_apply import apply_all, select_all

NOW = 1_764_000_000.0
SOURCES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(detection.SHIPPED_DIRECTORY.glob("*.yaml"))}
GENERIC = {
    "table": "task_queue",
    "lease_until": "lease_until_utc",
    "requeue_status": "queued",
    "finished_at": "finished_at_utc",
}

# Each tries to reach something else from inside an expression.
ATTACKS = [
    "(SELECT word FROM secrets LIMIT 1) IS NOT NULL",
    "EXISTS (SELECT 1 FROM secrets)",
    "(SELECT count(*) FROM sqlite_schema) > 0",
    "(SELECT count(*) FROM sqlite_sequence) > 0",
    "(SELECT count(*) FROM pragma_table_info('secrets')) > 0",
    "(SELECT count(*) FROM json_each('[1]')) > 0",
    "(SELECT count(*) FROM dbstat) > 0",
    "load_extension('/tmp/evil.so') IS NULL",
    "readfile('/etc/passwd') IS NULL",
    "writefile('/tmp/evil', 'x') IS NULL",
    "length(zeroblob(900000000)) > 0",
    "length(printf('%.*c', 900000000, 'x')) > 0",
    "payload <> ''",
    "sqlite_version() <> ''",
]
ESCAPES = [
    "1; DELETE FROM secrets", "1) OR 1 = 1 --", "1 /*", "1); ATTACH '/tmp/evil.db' AS e; --",
    "1 UNION SELECT word FROM secrets; --", "WITH x AS (SELECT 1) SELECT 1",
    "(WITH t_ins AS (SELECT word FROM secrets) SELECT 1 FROM t_ins) = 1", ":key = 1", "?1 = 1", "@table; DROP TABLE secrets",
    "\x00", "{grace} = 1", "`a` = 1", "[a] = 1",
]  # fmt: skip


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[apsw.Connection]:
    with queue_files.owned(tmp_path / "q.db", prismq.SCHEMA, "CREATE TABLE secrets (word);") as connection:
        connection.execute("INSERT INTO secrets VALUES ('hidden')")
        connection.execute(
            "CREATE TRIGGER t_ins AFTER UPDATE ON task_queue BEGIN UPDATE secrets SET word = 'seen'; END"
        )
        queue_files.add(
            connection, "task_queue", 2, type="mail", status="leased", lease_until_utc=prismq.stamp(NOW - 900)
        )
        queue_files.add(
            connection, "task_queue", 2, type="mail", status="completed", finished_at_utc=prismq.stamp(NOW - 9e6)
        )
        yield connection


def built(owner: apsw.Connection, draft: Any, **given: Any) -> CompiledProfile:
    profile = parse_profile(draft, "fuzz")
    selected = resolve_settings(profile, given)
    return compile_profile(profile, selected, match_tables(profile, selected, read_tables(owner)))


def everything_read(owner: apsw.Connection, compiled: CompiledProfile) -> list[Any]:
    """All that a poll would run."""
    results: list[Any] = [read_count(owner, rows.count_statement(NOW)) for rows in compiled.rows]
    results += [read_count(owner, bound) for bound in compiled.stale_count_statements(NOW)]
    return [
        *results,
        read_heads(owner, compiled, NOW),
        count_workers(owner, compiled, NOW),
        read_last_numbers(owner, compiled),
    ]


def prismq_draft() -> Any:
    return copy.deepcopy(SOURCES["prismq"])


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("spot", ["where", "queue", "since", "head_is", "stale", "worker"])
def test_a_row_set_that_reaches_out_is_stopped(owner: apsw.Connection, attack: str, spot: str) -> None:
    draft = prismq_draft()
    if spot == "worker":
        draft["workers"]["stale"] = attack
        queue_files.add(owner, "workers", worker_id="w", capabilities="")
    else:
        draft["rows"][2 if spot == "stale" else 0][spot] = attack
    compiled = built(owner, draft)
    with pytest.raises((ProfileError, apsw.SQLError), match=r"may not|no such"):
        everything_read(owner, compiled)


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("spot", ["where", "queue", "since", "stale", "set", "step_where", "purge"])
def test_an_expression_that_leaves_its_frame_is_refused(owner: apsw.Connection, escape: str, spot: str) -> None:
    draft = prismq_draft()
    requeue = draft["actions"]["requeue"]["steps"]
    places = {
        "where": (draft["rows"][0], "where"), "queue": (draft["rows"][0], "queue"), "since": (draft["rows"][0], "since"),
        "stale": (draft["rows"][2], "stale"), "set": (requeue[1]["set"], "status"), "step_where": (requeue[0], "where"),
        "purge": (draft["actions"]["purge"]["rows"][0], "where"),
    }  # fmt: skip
    spot_of, key = places[spot]
    spot_of[key] = escape
    with pytest.raises(ProfileError):
        built(owner, draft)


@pytest.mark.parametrize("attack", [*ATTACKS, "(SELECT load_extension('x')) IS NULL"])
def test_a_step_that_reaches_out_is_stopped_and_nothing_is_changed(owner: apsw.Connection, attack: str) -> None:
    draft = prismq_draft()
    draft["actions"]["requeue"]["steps"] = [{"to": "waiting", "set": {"status": f"({attack})"}}]
    compiled = built(owner, draft)
    assert compiled.requeue is not None
    with pytest.raises((ProfileError, apsw.SQLError)), owner:
        apply_all(owner, select_all(owner, compiled.requeue.selections, NOW), NOW)
    assert owner.execute("SELECT count(*) FROM task_queue WHERE status = 'leased'").get == 2


def test_a_step_changes_its_own_columns_only(owner: apsw.Connection) -> None:
    draft = prismq_draft()
    draft["actions"]["requeue"]["steps"] = [{"to": "waiting", "set": {"payload": "'mine'"}}]
    with pytest.raises(ProfileError, match="column 'payload' of task_queue is not named"):
        built(owner, draft)
    draft["actions"]["requeue"]["steps"] = [
        {"to": "waiting", "insert": {"into": "secrets", "values": {"word": "'x'"}}, "delete": True}
    ]
    with pytest.raises(ProfileError, match="table 'secrets' is not named in `detect`"):
        built(owner, draft)


def test_the_applications_own_triggers_run_as_they_are(owner: apsw.Connection) -> None:
    compiled = built(owner, prismq_draft())
    assert compiled.requeue is not None
    with owner:
        apply_all(owner, select_all(owner, compiled.requeue.selections, NOW), NOW)
    assert owner.execute("SELECT word FROM secrets").get == "seen"


def test_what_the_applications_schema_calls_is_its_own_affair(tmp_path: Path) -> None:
    schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, status TEXT, lease REAL, x TEXT DEFAULT (printf('%d', 1)), "
    schema += "y TEXT GENERATED ALWAYS AS (soundex2(status)) VIRTUAL); CREATE INDEX i ON t (soundex2(status));"
    with queue_files.owned(tmp_path / "t.db") as owner:
        owner.create_scalar_function("soundex2", lambda word: str(word)[:1], 1, deterministic=True)
        queue_files.run(owner, schema)
        queue_files.add(owner, "t", status="running", lease=NOW - 900)
        words = {"table": "t", "lease_until": "lease", "time": "unix_f", "requeue_status": "queued"}
        compiled = built(owner, copy.deepcopy(SOURCES["generic"]), **words)
        assert compiled.requeue is not None
        with owner:
            assert apply_all(owner, select_all(owner, compiled.requeue.selections, NOW), NOW)["waiting"] == 1


# --- mutated ---

_WORDS = st.sampled_from(
    [*ATTACKS, *ESCAPES, "", "1", "id", "secrets", "task_queue", "*", "@now", "@ago(grace)", "$grace", "{prefix}x", "NULL",
     "waiting", "unix_s", "stardate", "sql_local", "a" * 300]
)  # fmt: skip
_JUNK = st.one_of(_WORDS, st.none(), st.booleans(), st.integers(-5, 10**12), st.floats(), st.text(max_size=12),
                  st.lists(_WORDS, max_size=2), st.dictionaries(_WORDS, _WORDS, max_size=2))  # fmt: skip


EXPRESSIONS = frozenset(
    {"where", "queue", "since", "stale", "stale_since", "head_is", "status", "attempts", "finished"}
)
_EXPRESSIONS = st.one_of(
    st.sampled_from(
        [*ATTACKS, "1", "0", "NULL", "status = 'x'", "id", "id = @now", "coalesce(id, 1)", "lower(hex(id))", "@suffix"]
    ),
    st.builds("({}) OR ({})".format, st.sampled_from(ATTACKS), st.sampled_from(["1", "id > 3", "status = 'leased'"])),
    _WORDS,
)


def spots(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to everything in a document."""
    if path:
        yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in items:
        yield from spots(child, (*path, key))


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    draft = copy.deepcopy(SOURCES[draw(st.sampled_from(sorted(SOURCES)))])
    only_words = draw(st.booleans())  # a valid profile is processed further than an invalid one
    for _ in range(draw(st.integers(1, 3))):
        path = draw(
            st.sampled_from([candidate for candidate in spots(draft) if not only_words or candidate[-1] in EXPRESSIONS])
        )
        parent = draft
        for key in path[:-1]:
            parent = parent[key]
        change = "replace" if only_words else draw(st.sampled_from(["replace", "remove", "rename"]))
        value = draw(_EXPRESSIONS if only_words else _JUNK)
        if change == "replace":
            parent[path[-1]] = value
        elif change == "remove" or isinstance(parent, list):
            del parent[path[-1]]
        else:
            parent[value if isinstance(value, str) else "x"] = parent.pop(path[-1])
    return draft


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(draft=mutated())
def test_a_damaged_profile_is_a_profile_error_and_never_writes_or_leaks(draft: Any) -> None:
    with apsw.Connection(":memory:") as owner:
        queue_files.run(owner, "".join(queue_files.SCHEMAS.values()) + "CREATE TABLE secrets (word);")
        owner.execute("INSERT INTO secrets VALUES ('hidden')")
        queue_files.add(owner, "task_queue", 2, type="mail", status="leased", lease_until_utc=prismq.stamp(NOW - 900))
        before = owner.total_changes()
        accesses: list[tuple[int, str]] = []
        try:
            given_settings = {name: GENERIC.get(name, "x") for name in required_settings(parse_profile(draft, "fuzz"))}
            compiled = built(owner, draft, **given_settings)
        except ProfileError:
            return
        with suppress(
            apsw.Error, ValueError, ProfileError
        ):  # a wrong column, a type that does not fit: the collector's failure
            accesses += [(0, repr(value)) for value in everything_read(owner, compiled)]
        assert owner.total_changes() == before
        assert not any("hidden" in text for _, text in accesses)
        for action in (compiled.requeue, compiled.purge):
            with suppress(apsw.Error, ValueError, ProfileError), owner:
                apply_all(owner, select_all(owner, action.selections if action else (), NOW), NOW)
        assert owner.execute("SELECT word FROM secrets").get == "hidden"


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet=" ()'\";:@$?{}[]`-/*#abnowSELECTWITH\x00\n1", max_size=24))
def test_no_expression_leaves_its_brackets(text: str) -> None:
    """If it is accepted, then what stands after it still is part of the same single statement."""
    from collectors.queue_profiles.expression import ExpressionScope, compile_expression

    try:
        compiled = compile_expression(text, ExpressionScope())
    except ProfileError:
        return
    with apsw.Connection(":memory:") as connection, suppress(apsw.SQLError, ProfileError):
        connection.execute("CREATE TABLE t (a, b)")
        connection.execute("CREATE TABLE s (word)")
        with allow_reading(connection, built_access()):
            cursor = connection.execute(
                f"SELECT 1 FROM t WHERE ({compiled.sql}) AND 0", {p.name: 1 for p in compiled.parameters}
            )
            assert cursor.fetchall() == []


def built_access() -> Any:
    from collectors.queue_profiles.authorizer import AccessRules

    return AccessRules({"t": frozenset({"a", "b"})})


def test_a_damaged_profile_file_is_a_quick_profile_error(tmp_path: Path) -> None:
    started = time.process_time()
    for content in ("[" * 2000, "a: " + "{b: " * 500, "&a [*a, *a]", "!!python/object/apply:os.system [true]", ""):
        (tmp_path / "p.yaml").write_text(content)
        with pytest.raises(ProfileError) as caught:
            detection.find_profile(str(tmp_path / "p.yaml"))
        assert "\n" not in str(caught.value)
    assert time.process_time() >= started
