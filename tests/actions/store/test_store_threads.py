"""Our history under several threads and connections of one process, as the agent has them."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import apsw
import pytest

from actions.store.database import StoreUnavailable, history_file, open_state_store, state_store, store_transaction
from tests.support.patience import LONGEST_WAIT

SET = "INSERT OR REPLACE INTO setting VALUES (?, '1')"


def names(connection: apsw.Connection) -> set[str]:
    return {str(name) for (name,) in connection.execute("SELECT name FROM setting")}


def test_a_thread_that_waits_for_the_lock_lets_the_one_that_holds_it_go_on(tmp_path: Path) -> None:
    with state_store(tmp_path) as holder, state_store(tmp_path) as waiter:

        def wait() -> None:
            with store_transaction(waiter):
                waiter.execute(SET, ("waiter",))

        thread = threading.Thread(target=wait)
        with store_transaction(holder):
            holder.execute(SET, ("holder",))
            thread.start()
            for _ in range(20):  # the holder works on while the other one waits
                time.sleep(0.005)
        thread.join()
        assert names(holder) == {"holder", "waiter"}


def test_a_second_connection_of_a_process_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    def locks() -> int:
        inode = f":{history_file(tmp_path).stat().st_ino} "
        return sum(inode in line for line in Path("/proc/locks").read_text().splitlines())

    with state_store(tmp_path) as first:
        names(first)
        held = locks()
        assert held > 0
        with state_store(tmp_path) as second:
            names(second)
            assert locks() == held
        assert locks() == held


def test_another_process_that_closes_the_history_leaves_it_to_those_who_have_it_open(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from actions.store.database import state_store\n"
        f"with state_store(Path(sys.argv[1])) as store: store.execute({SET!r}, ('other',))"
    )
    with state_store(tmp_path) as first, state_store(tmp_path) as second:
        second.execute(SET, ("before",))
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=LONGEST_WAIT)
        first.execute(SET, ("after",))
        assert names(second) == {"before", "other", "after"}
    with state_store(tmp_path) as again:
        assert names(again) == {"before", "other", "after"}


def fail(store: apsw.Connection, name: str) -> None:
    with store_transaction(store):
        store.execute(SET, (name,))
        1 / 0  # noqa: B018


def test_a_transaction_that_fails_leaves_nothing_and_a_part_that_fails_only_its_own(tmp_path: Path) -> None:
    with state_store(tmp_path) as store:
        with pytest.raises(ZeroDivisionError):
            fail(store, "whole")
        assert names(store) == set()
        with store_transaction(store):
            store.execute(SET, ("outer",))
            with pytest.raises(ZeroDivisionError):
                fail(store, "part")
        assert names(store) == {"outer"}
        assert not store.in_transaction


def test_a_read_only_history_is_said_to_be_unavailable_when_it_is_opened(tmp_path: Path) -> None:
    with state_store(tmp_path):
        pass
    script = (
        "import sys; from pathlib import Path; from actions.store.database import StoreUnavailable, open_state_store\n"
        "try: open_state_store(Path(sys.argv[1]))\n"
        "except StoreUnavailable as error: sys.exit(str(error))"
    )
    history_file(tmp_path).chmod(0o400)
    drop = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []
    result = subprocess.run(
        [*drop, sys.executable, "-c", script, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=LONGEST_WAIT,
    )
    assert result.returncode == 1
    assert "it cannot be written" in result.stderr
    assert "make it writable" in result.stderr


def test_a_newer_history_is_not_touched(tmp_path: Path) -> None:
    with state_store(tmp_path) as store:
        store.pragma("user_version", 99)
    with pytest.raises(StoreUnavailable, match="99 is newer"):
        open_state_store(tmp_path)
