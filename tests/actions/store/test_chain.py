"""The chain of history: every change by hand is seen and named, and nothing that we do ourselves is called one."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from actions.model.condition import Condition
from actions.model.outcome import Effect, Outcome
from actions.model.plan import Plan
from actions.model.request import Request
from actions.runner.pause_and_cancel import cancel_run, pause_actions
from actions.store import runs
from actions.store.chain import CHAINED_COLUMNS, append_entry, run_digest
from actions.store.chain_check import ChainReport, verify_chain
from actions.store.database import history_file, open_state_store, state_store
from actions.store.pause import clear_pause
from actions.store.recovery import recover_lost_runs
from actions.store.runs import Claim, RunEnding
from tests.support.patience import LONGEST_WAIT

NIGHT = 1_772_420_400.0
WAL = Condition("sqlite_wal_backlog_bytes", above=9.0)
AUTOMATIC = Request("checkpoint", "jobs", "threshold", rule="wal", condition=WAL, cooldown=600.0)
VERSION_3 = Path(__file__).with_name("history_version_3.sql")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[apsw.Connection]:
    with state_store(tmp_path) as connection:
        yield connection


def perform(store: apsw.Connection, request: Request = AUTOMATIC, now: float = NIGHT) -> int:
    """A run from its request to its end, with a plan, figures and an effect."""
    claim = runs.enqueue_and_claim(store, request, "/srv/jobs.db", now)
    assert runs.start_run(store, claim, now + 1)
    runs.record_plan(store, claim, Plan(("copy 7 frames",), {"frames": 7}), before=12.5)
    ending = RunEnding(
        Outcome.DONE, "copied 7 frames", figures={"frames": 7}, before=12.5, after=0.0, effect=Effect.FIXED
    )
    assert runs.end_run(store, claim, ending, now + 2.25)
    return claim.run_id


def change(folder: Path, *statements: str) -> None:
    """Change the history as a person with `sqlite3` does."""
    connection = apsw.Connection(str(history_file(folder)))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def first_fault(store: apsw.Connection) -> str:
    report = verify_chain(store)
    return report.faults[0].message if report.faults else ""


def record_of(store: apsw.Connection, run_id: int) -> str:
    return runs.load_run(store, run_id).record


class TestWhole:
    def test_an_empty_history_has_no_head(self, store: apsw.Connection) -> None:
        assert verify_chain(store) == ChainReport()

    def test_runs_as_they_were_recorded(self, store: apsw.Connection) -> None:
        for number in range(3):
            perform(store, now=NIGHT + 10 * number)
        report = verify_chain(store)
        assert (report.runs, report.sealed, report.faults) == (3, 0, ())
        newest = runs.load_run(store, 3)
        assert (newest.record, newest.record_hash) == ("whole", report.head)

    def test_all_that_befalls_a_run(self, store: apsw.Connection) -> None:
        number, _ = runs.enqueue_run(store, AUTOMATIC, "/srv/jobs.db", NIGHT)
        claim = runs.claim_run(store, number, NIGHT + 1)
        assert claim is not None
        assert runs.release_claim(store, number, claim.token)
        runs.enqueue_run(store, Request("checkpoint", "jobs", asked_by="user ann"), "/srv/jobs.db", NIGHT + 2)
        assert verify_chain(store).faults == ()
        again = runs.claim_run(store, number, NIGHT + 3)
        assert again is not None
        runs.start_run(store, again, NIGHT + 4)
        pause_actions(store, "by ann", "ann", NIGHT + 5)
        cancel_run(store, number, "ann", NIGHT + 6)
        clear_pause(store, "ben", NIGHT + 7)
        store.execute("BEGIN")
        store.execute("ROLLBACK")
        assert verify_chain(store).faults == ()
        runs.end_run(store, again, RunEnding(Outcome.CANCELLED, "stopped"), NIGHT + 8)
        assert (verify_chain(store).faults, record_of(store, number)) == ((), "whole")

    def test_what_was_rolled_back_is_not_in_it(self, store: apsw.Connection) -> None:
        perform(store)
        head = verify_chain(store).head
        store.execute("BEGIN IMMEDIATE")
        perform(store)
        store.execute("ROLLBACK")
        assert (verify_chain(store).head, verify_chain(store).faults) == (head, ())
        perform(store)
        assert verify_chain(store).faults == ()

    def test_a_claim_that_was_lost_appends_nothing(self, store: apsw.Connection) -> None:
        claim = runs.enqueue_and_claim(store, AUTOMATIC, "/srv/jobs.db", NIGHT)
        head = verify_chain(store).head
        assert not runs.start_run(store, Claim(claim.run_id, "another"), NIGHT)
        assert not runs.end_run(store, Claim(claim.run_id, "another"), RunEnding(Outcome.DONE, "x"), NIGHT)
        assert runs.claim_run(store, claim.run_id, NIGHT) is None
        assert verify_chain(store).head == head

    def test_values_at_the_edge_of_what_sqlite_holds(self, store: apsw.Connection) -> None:
        claim = runs.enqueue_and_claim(store, AUTOMATIC, "/srv/\u00fc\n\x1b.db", NIGHT)
        runs.start_run(store, claim, NIGHT)
        ending = RunEnding(Outcome.DONE, "\x00 \U0001f4a3", before=float("inf"), after=-0.0)
        runs.end_run(store, claim, ending, 1e300)
        assert (verify_chain(store).faults, record_of(store, 1)) == ((), "whole")


# Another value for each column: of its own kind, and for texts also one that is not text or not valid.
NUMBERS = {"id": "99", "priority": "7", "requested_at": "1.5", "claimed_at": "1.5", "started_at": "NULL",
           "ended_at": "ended_at + 0.001", "before": "NULL", "after": "5"}  # fmt: skip
CHANGES = [
    (column, NUMBERS.get(column, "'pending'" if column == "state" else "'forged'")) for column in CHAINED_COLUMNS
]
HOSTILE = [
    ("message", "message || ' '"),
    ("message", "CAST(message AS BLOB) || x'ff'"),
    ("message", "CAST(x'ff00fe' AS TEXT)"),
    ("request", "'{'"),
    ("request", "replace(request, 'threshold', 'person')"),
    ("plan", "NULL"),
    ("figures", "'[]'"),
    ("figures", "'{\"frames\": 8}'"),
    ("outcome", "NULL"),
    ("ended_at", "'yesterday'"),
    ("ended_at", "1e300"),
    ("ended_at", "-1e300"),
    ("requested_at", "CAST(x'ff' AS TEXT)"),
]


class TestChanged:
    @pytest.mark.parametrize(("column", "value"), CHANGES + HOSTILE)
    def test_any_value_changed_by_hand(self, tmp_path: Path, store: apsw.Connection, column: str, value: str) -> None:
        for number in range(3):
            perform(store, now=NIGHT + 10 * number)
        change(tmp_path, f"UPDATE run SET {column} = {value} WHERE id = 2")
        report = verify_chain(store)
        expected = ("missing", 2) if column == "id" else ("changed", 2)
        assert (report.faults[0].kind, report.faults[0].run_id, report.faults[0].at) == (*expected, NIGHT + 12.25)
        shown = {run.id: run.record for run in runs.newest_runs(store, None, 10)}
        assert shown == {1: "whole", 3: "whole", **({99: "inserted"} if column == "id" else {2: "changed"})}

    def test_every_column_of_a_run_is_covered(self, store: apsw.Connection) -> None:
        columns = [name for (_, name, *_) in store.execute("PRAGMA table_info(run)")]
        assert sorted(columns) == sorted(CHAINED_COLUMNS)

    def test_two_runs_swapped(self, tmp_path: Path, store: apsw.Connection) -> None:
        for number in range(3):
            perform(store, now=NIGHT + 10 * number)
        change(tmp_path, *(f"UPDATE run SET id = {new} WHERE id = {old}" for old, new in ((1, 9), (2, 1), (9, 2))))
        assert [(f.kind, f.run_id) for f in verify_chain(store).faults] == [("changed", 1), ("changed", 2)]

    def test_our_own_later_change_does_not_cover_it(self, tmp_path: Path, store: apsw.Connection) -> None:
        claim = runs.enqueue_and_claim(store, AUTOMATIC, "/srv/jobs.db", NIGHT)
        change(tmp_path, "UPDATE run SET path = '/srv/other.db'")
        runs.start_run(store, claim, NIGHT + 1)
        runs.end_run(store, claim, RunEnding(Outcome.DONE, "done"), NIGHT + 2)
        assert (first_fault(store), record_of(store, 1)) == ("run 1 was changed after it was written", "changed")

    def test_a_cancel_does_not_cover_it(self, tmp_path: Path, store: apsw.Connection) -> None:
        claim = runs.enqueue_and_claim(store, AUTOMATIC, "/srv/jobs.db", NIGHT)
        runs.start_run(store, claim, NIGHT)
        change(tmp_path, "UPDATE run SET path = '/srv/other.db'")
        cancel_run(store, 1, "ann", NIGHT)
        assert record_of(store, 1) == "changed"

    @pytest.mark.parametrize("column", ["content", "hash", "event", "who", "detail", "at", "run_id"])
    def test_an_entry_of_the_chain(self, tmp_path: Path, store: apsw.Connection, column: str) -> None:
        for number in range(3):
            perform(store, now=NIGHT + 10 * number)
        value = "5" if column in ("at", "run_id") else "'forged'"
        change(tmp_path, f"UPDATE chain SET {column} = {value} WHERE sequence = 10")
        assert verify_chain(store).faults

    def test_a_run_with_its_digest_but_not_the_hashes_after_it(self, tmp_path: Path, store: apsw.Connection) -> None:
        for number in range(2):
            perform(store, now=NIGHT + 10 * number)
        change(tmp_path, "UPDATE run SET message = 'forged' WHERE id = 1")
        digest = run_digest(store, 1)
        newest = "(SELECT max(sequence) FROM chain WHERE run_id = 1)"
        change(tmp_path, f"UPDATE chain SET content = '{digest}' WHERE sequence = {newest}")
        assert (first_fault(store), record_of(store, 1)) == ("run 1 was changed after it was written", "changed")

    def test_a_pause_whose_reason_was_changed(self, tmp_path: Path, store: apsw.Connection) -> None:
        pause_actions(store, "by ann", "ann", NIGHT)
        change(tmp_path, "UPDATE setting SET value = 'by ben' WHERE name = 'paused'")
        assert first_fault(store) == "the pause of all actions was changed after it was written"


class TestMissing:
    @pytest.mark.parametrize("chain_too", [False, True])
    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_a_run_that_was_deleted(self, tmp_path: Path, store: apsw.Connection, number: int, chain_too: bool) -> None:
        for step in range(3):
            perform(store, now=NIGHT + 10 * step)
        change(tmp_path, f"DELETE FROM run WHERE id = {number}")
        if chain_too:
            change(tmp_path, f"DELETE FROM chain WHERE run_id = {number}")
        report = verify_chain(store)
        assert (report.faults[0].kind, report.faults[0].run_id) == ("missing", number)
        assert [run.record for run in runs.newest_runs(store, None, 10)] == ["whole", "whole"]
        perform(store, now=NIGHT + 90)
        assert verify_chain(store).faults[0].run_id == number

    def test_the_newest_runs_cut_off_with_their_entries(self, tmp_path: Path, store: apsw.Connection) -> None:
        for step in range(4):
            perform(store, now=NIGHT + 10 * step)
        change(tmp_path, "DELETE FROM run WHERE id > 2", "DELETE FROM chain WHERE run_id > 2")
        assert first_fault(store) == "runs 3 to 4 are missing: they were deleted"
        perform(store)
        assert first_fault(store) == "runs 3 to 4 are missing: they were deleted"

    def test_everything_deleted(self, tmp_path: Path, store: apsw.Connection) -> None:
        perform(store)
        change(tmp_path, "DELETE FROM run", "DELETE FROM chain")
        assert first_fault(store) == "run 1 is missing: it was deleted"

    def test_the_head_deleted_too_still_leaves_the_numbers(self, tmp_path: Path, store: apsw.Connection) -> None:
        for step in range(2):
            perform(store, now=NIGHT + 10 * step)
        cut = ("DELETE FROM run WHERE id > 1", "DELETE FROM chain WHERE run_id > 1")
        change(tmp_path, *cut, "DELETE FROM setting WHERE name = 'chain_head'")
        assert first_fault(store) == "run 2 is missing: it was deleted"

    def test_an_older_copy_put_back_is_seen_with_a_head_that_is_known(self, tmp_path: Path) -> None:
        with state_store(tmp_path / "then") as store:
            perform(store)
        shutil.copytree(tmp_path / "then", tmp_path / "now")
        with state_store(tmp_path / "now") as store:
            early = verify_chain(store).head
            perform(store, now=NIGHT + 10)
            head = verify_chain(store).head
            assert verify_chain(store, early).faults == verify_chain(store, head).faults == ()
        with state_store(tmp_path / "then") as store:
            assert verify_chain(store, early).faults == ()
            assert f"the head {head} is not in this chain" in verify_chain(store, head).faults[0].message


class TestInserted:
    @pytest.mark.parametrize("number", [-5, 0, 3, 2**62])
    def test_a_run_that_we_did_not_record(self, tmp_path: Path, store: apsw.Connection, number: int) -> None:
        for step in range(2):
            perform(store, now=NIGHT + 10 * step)
        values = (column for (_, column, *_) in store.execute("PRAGMA table_info(run)") if column != "id")
        columns = ", ".join(f'"{column}"' for column in values)
        change(tmp_path, f"INSERT INTO run (id, {columns}) SELECT {number}, {columns} FROM run WHERE id = 1")
        report = verify_chain(store)
        assert [(f.kind, f.run_id) for f in report.faults] == [("inserted", number)]
        assert record_of(store, number) == "inserted"

    def test_a_pending_run_that_was_inserted_stays_named_after_it_ran(
        self, tmp_path: Path, store: apsw.Connection
    ) -> None:
        perform(store)
        change(
            tmp_path,
            "INSERT INTO run (database, path, action, request, trigger, state, requested_at)"
            " SELECT database, path, action, request, trigger, 'pending', 1.0 FROM run",
        )
        claim = runs.claim_run(store, 2, NIGHT)
        assert claim is not None
        runs.start_run(store, claim, NIGHT)
        runs.end_run(store, claim, RunEnding(Outcome.DONE, "done"), NIGHT)
        assert (first_fault(store), record_of(store, 2)) == (
            "run 2 was inserted: queuekeeper did not record it",
            "inserted",
        )

    def test_an_entry(self, tmp_path: Path, store: apsw.Connection) -> None:
        perform(store)
        change(
            tmp_path,
            "INSERT INTO chain (at, event, who, detail, content, hash) VALUES (1, 'paused', 'ben', '', '', 'x')",
        )
        assert "entry 6 of the chain" in first_fault(store)


class TestVersion3:
    """A history that the version before the chain wrote."""

    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        connection = apsw.Connection(str(history_file(tmp_path)))
        connection.execute(VERSION_3.read_text())
        history_file(tmp_path).chmod(0o600)
        for number in (1, 2, 4):
            connection.execute(
                "INSERT INTO run (id, database, path, action, request, trigger, state, requested_at, ended_at, outcome,"
                " message) VALUES (?, 'jobs', '/srv/jobs.db', 'backup', ?, 'person', 'ended', 1.0, 2.0, 'done', 'backed up')",
                (number, '{"action": "backup", "database": "jobs"}'),
            )
        connection.execute(
            "INSERT INTO run (database, path, action, request, trigger, state, requested_at)"
            " VALUES ('jobs', '/srv/jobs.db', 'analyze', ?, 'person', 'pending', 3)",
            ('{"action": "analyze", "database": "jobs"}',),
        )
        connection.execute("DELETE FROM run WHERE id = 4")
        connection.execute("INSERT INTO setting VALUES ('paused', 'by ann')")
        connection.execute("PRAGMA user_version = 3")
        connection.close()
        return tmp_path

    def test_it_is_taken_over_and_said_to_be_unchained(self, old: Path) -> None:
        with state_store(old) as store:
            report = verify_chain(store)
            assert (report.runs, report.sealed, report.faults) == (3, 3, ())
            assert report.sealed_at is not None
            assert [run.record for run in runs.newest_runs(store, None, 10)] == ["whole"] * 3
            clear_pause(store)
            claim = runs.claim_run(store, 5, NIGHT)
            assert claim is not None
            runs.end_run(store, claim, RunEnding(Outcome.DONE, "done"), NIGHT)
            perform(store)
            report = verify_chain(store)
            assert (report.runs, report.sealed, report.faults) == (4, 3, ())

    def test_a_change_from_now_on_is_seen(self, old: Path) -> None:
        with state_store(old):
            pass
        change(old, "UPDATE run SET message = 'lost' WHERE id = 2")
        with state_store(old) as store:
            assert first_fault(store) == "run 2 was changed after it was written"

    def test_runs_that_were_all_deleted_before_are_not_missed(self, old: Path) -> None:
        change(old, "DELETE FROM run", "DELETE FROM setting")
        with state_store(old) as store:
            assert verify_chain(store).faults == ()
            assert perform(store) == 6
            assert verify_chain(store).faults == ()

    def test_a_version_that_knows_no_chain_refuses_it(self, old: Path) -> None:
        with state_store(old) as store:
            assert store.pragma("user_version") == 4


WRITER = """
import sys; from pathlib import Path
from actions.store import runs; from actions.store.database import state_store
from actions.store.runs import RunEnding
from actions.model.outcome import Outcome; from actions.model.request import Request
with state_store(Path(sys.argv[1])) as store:
    for i in range(int(sys.argv[3])):
        claim = runs.enqueue_and_claim(store, Request('checkpoint', sys.argv[2]), '/x', float(i))
        assert runs.start_run(store, claim, float(i))
        assert runs.end_run(store, claim, RunEnding(Outcome.DONE, 'ok'), i + 0.5)
        print(i, flush=True)
"""


class TestWriters:
    def begin_writer(self, folder: Path, name: str, times: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, str(folder), name, str(times)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def test_several_processes_append_to_one_chain(self, tmp_path: Path) -> None:
        with state_store(tmp_path):
            writers = [self.begin_writer(tmp_path, f"db{n}", 25) for n in range(3)]
        for writer in writers:
            writer.communicate(timeout=LONGEST_WAIT)
        assert [writer.returncode for writer in writers] == [0, 0, 0]
        with state_store(tmp_path) as store:
            report = verify_chain(store)
        assert (report.runs, report.entries, report.faults) == (75, 300, ())

    def test_it_is_whole_whenever_a_writer_is_killed(self, tmp_path: Path) -> None:
        beside = self.begin_writer(tmp_path, "beside", 60)
        for ended in (1, 4, 2):
            writer = self.begin_writer(tmp_path, "jobs", 10_000)
            assert writer.stdout is not None
            for _ in range(ended):
                writer.stdout.readline()
            time.sleep(0.003 * ended)  # anywhere in the next run
            writer.send_signal(signal.SIGKILL)
            writer.communicate(timeout=LONGEST_WAIT)
            with state_store(tmp_path) as store:
                assert verify_chain(store).faults == ()
        beside.communicate(timeout=LONGEST_WAIT)
        with state_store(tmp_path) as store:
            recover_lost_runs(store, lambda _path: False, time.time())
            assert (beside.returncode, verify_chain(store).faults) == (0, ())

    def test_a_verification_beside_writers_sees_one_moment(self, tmp_path: Path) -> None:
        with state_store(tmp_path) as store:
            writer = self.begin_writer(tmp_path, "jobs", 40)
            while writer.poll() is None:
                assert verify_chain(store).faults == ()
                assert {run.record for run in runs.newest_runs(store, None, 50)} <= {"whole"}
            writer.communicate(timeout=LONGEST_WAIT)
            assert (writer.returncode, verify_chain(store).runs) == (0, 40)


class TestCost:
    def test_an_entry_costs_as_much_in_a_long_chain_as_in_a_short_one(self, store: apsw.Connection) -> None:
        def steps_of_a_run() -> int:
            steps = 0

            def count_step() -> bool:
                nonlocal steps
                steps += 1
                return False

            store.set_progress_handler(count_step, 1)
            perform(store)
            store.set_progress_handler(None)
            return steps

        perform(store)
        short = steps_of_a_run()
        with_many = 2000
        store.execute("BEGIN IMMEDIATE")
        for number in range(with_many):
            append_entry(store, "note", NIGHT, run_id=10_000 + number)
        store.execute("COMMIT")
        assert steps_of_a_run() < 2 * short


def test_the_history_survives_a_loss_of_power_after_each_transaction(tmp_path: Path) -> None:
    """https://sqlite.org/pragma.html#pragma_synchronous: FULL syncs the WAL at each commit."""
    store = open_state_store(tmp_path)
    assert (store.pragma("journal_mode"), store.pragma("synchronous")) == ("wal", 2)
    store.close()
