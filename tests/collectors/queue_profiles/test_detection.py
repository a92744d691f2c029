"""Each file fits the profile of its own library and no other: a column less or more, two libraries in a file, none."""

import itertools
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.queue_profiles import detection
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.settings import resolve_settings
from collectors.queue_profiles.table_match import match_tables, read_tables
from collectors.target import Target
from tests.support.scenes import queue_files

NAMES = sorted(queue_files.SCHEMAS)
TARGET = Target("x", Path("/nowhere/x.db"))


def database(*schemas: str) -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    queue_files.run(connection, "".join(schemas))
    return connection


def detected_names(connection: apsw.Connection, target: Target = TARGET) -> list[str]:
    return [match.profile.name for match in detection.matching_profiles(read_tables(connection), target)]


def required_columns() -> list[tuple[str, str, str]]:
    """(profile, table, column) of everything that a profile needs."""
    needed = []
    for name in NAMES:
        profile = detection.find_profile(name)
        with database(queue_files.SCHEMAS[name]) as connection:
            match = match_tables(profile, resolve_settings(profile, {}), read_tables(connection))
        for key, columns in profile.detect.items():
            tables = match.tables_named(key, resolve_settings(profile, {}))
            needed += [(name, table.name, column.lower()) for table in tables for column in sorted(columns)]
    return needed


def test_there_is_a_schema_for_every_profile_that_is_detected() -> None:
    detected = {profile.name for profile in detection.shipped_profiles()} - {"generic"}
    assert detected == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_schema_is_its_own_profiles_alone(name: str) -> None:
    with database(queue_files.SCHEMAS[name]) as connection:
        assert detected_names(connection) == [name]


def test_one_needed_column_less_is_no_match() -> None:
    columns = required_columns()
    assert len(columns) > 70
    for name, table, column in columns:
        with database(queue_files.SCHEMAS[name]) as connection:
            connection.execute(f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "{column}_other"')
            assert detected_names(connection) == [], (name, table, column)
            lacking = detection.missing_parts(detection.find_profile(name), read_tables(connection), TARGET)
            assert len(lacking) == 1
            assert column in lacking[0].lower() or "no table like" in lacking[0]


@pytest.mark.parametrize("name", NAMES)
def test_more_columns_and_more_tables_change_nothing(name: str) -> None:
    with database(queue_files.SCHEMAS[name], "CREATE TABLE notes (id, text); CREATE VIEW v AS SELECT 1;") as connection:
        tables = [table.name for table in read_tables(connection).values()]
        for table in tables:
            connection.execute(f'ALTER TABLE "{table}" ADD COLUMN brand_new TEXT')
        assert detected_names(connection) == [name]


@pytest.mark.parametrize("pair", list(itertools.combinations(NAMES, 2)), ids="+".join)
def test_two_systems_in_one_file_are_both_detected(pair: tuple[str, str]) -> None:
    with database(*(queue_files.SCHEMAS[name] for name in pair)) as connection:
        assert detected_names(connection) == list(pair) or set(detected_names(connection)) == set(pair)
        profile = detection.detect_profile(connection, TARGET)
        assert profile is not None
        assert set(profile.name.split("+")) == set(pair)
        prefixes = {rows.context.prefix for rows in profile.rows}
        assert prefixes == {f"{name}/" for name in pair}


def test_one_system_under_two_names_of_its_tables_is_distinguished() -> None:
    with database(queue_files.solid_queue(), queue_files.solid_queue("firm_queue_")) as connection:
        profile = detection.detect_profile(connection, TARGET)
        assert profile is not None
        assert {rows.context.prefix for rows in profile.rows} == {
            "solid-queue:solid_queue_jobs/", "solid-queue:firm_queue_jobs/",
        }  # fmt: skip


def test_only_the_operators_prefix_is_matched() -> None:
    both = database(queue_files.solid_queue("jobs_"), queue_files.solid_queue("firm_queue_"))
    with both as connection:
        target = Target("x", TARGET.path, "solid-queue", settings={"prefix": "jobs_"})
        profile = detection.detect_profile(connection, target)
        assert profile is not None
        assert {rows.quoted_table for rows in profile.rows if rows.state == "done"} == {'"jobs_jobs"'}
        with pytest.raises(ProfileError, match="it has no table mine_jobs"):
            detection.detect_profile(connection, Target("x", TARGET.path, "solid-queue", settings={"prefix": "mine_"}))


def test_a_setting_may_be_meant_for_one_of_two_systems_but_for_one_it_must_be() -> None:
    with database(queue_files.LARAVEL, queue_files.LITEQUE) as connection:
        target = Target("x", TARGET.path, settings={"grace": 5.0})
        profile = detection.detect_profile(connection, target)
        assert profile is not None
        assert profile.settings["grace"] == 5.0
        with pytest.raises(ProfileError, match=r"settings\.graze: no such setting"):
            detection.detect_profile(connection, Target("x", TARGET.path, settings={"graze": 5.0}))


def test_what_only_the_application_can_open_does_not_hinder() -> None:
    with database(queue_files.LITEQUE) as connection:
        connection.execute("PRAGMA writable_schema = on")
        connection.execute(
            "INSERT INTO sqlite_schema VALUES ('table', 'search', 'search', 0, 'CREATE VIRTUAL TABLE search USING unknown(a)')"
        )
        connection.execute("PRAGMA writable_schema = reset")
        assert detected_names(connection) == ["liteque"]


_names = st.from_regex(r"\A[a-z_]{1,12}\Z") | st.sampled_from(
    ["jobs", "tasks", "task", "kv", "queue_jobs", "task_queue", "id", "queue", "status", "data", "timestamp", "payload"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_names, st.sets(_names, min_size=1, max_size=5), max_size=6))
def test_a_random_schema_fits_no_profile(schema: dict[str, set[str]]) -> None:
    with database() as connection:
        for table, columns in schema.items():
            if not table.startswith("sqlite_"):
                listed = ", ".join(f'"{column}"' for column in sorted(columns))
                connection.execute(f'CREATE TABLE "{table}" ({listed})')
        # persist-queue's needs three columns only: any table that has them all matches
        lookalike = any(
            name.startswith(("queue_", "filo_queue_", "unique_queue_")) and {"_id", "data", "timestamp"} <= columns
            for name, columns in schema.items()
        )
        assert (detected_names(connection) == []) or lookalike


def test_reading_a_large_schema_is_one_statement() -> None:
    with database(*(f"CREATE TABLE t{n} (a, b, c);" for n in range(300)), queue_files.LITEQUE) as connection:
        statements: list[str] = []
        connection.exec_trace = lambda _cursor, sql, _values: statements.append(sql) or True
        assert detected_names(connection) == ["liteque"]
        assert len(statements) == 1
