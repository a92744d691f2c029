"""Queue files made by the real libraries, in a process of their own (they use Python's sqlite3): real_queues.py NAME FILE.

Says `ready` and stays until its input ends, so that the file has a living owner.
"""

import datetime
import sys
import warnings
from pathlib import Path


def huey(path: Path) -> object:
    """Two queues; waiting tasks, one due later, one overdue, results, and a lock that nobody will release."""
    from huey import SqliteHuey

    kept = []
    for name, waiting in (("mail", 5), ("video", 2)):
        queue = SqliteHuey(name, filename=str(path), results=True)

        @queue.task(name=f"ok_{name}")
        def ok(n: int) -> int:
            return n

        for n in range(waiting + 2):
            ok(n)
        queue.execute(queue.dequeue())  # done, its result unread
        queue.dequeue()  # taken by a worker that dies: not in the file any more
        now = datetime.datetime.now(datetime.UTC)  # a naive one huey takes for local time
        queue.add_schedule(ok.s(9, eta=now + datetime.timedelta(hours=1)))
        queue.add_schedule(ok.s(9, eta=now - datetime.timedelta(minutes=10)))
        queue.lock_task("nightly").__enter__()
        kept.append(queue)
    return kept


def persist_queue(path: Path) -> object:
    """One queue of each kind, all in one file; the acknowledging one with every status."""
    import persistqueue as pq

    place = {"path": str(path.parent), "db_file_name": path.name}
    jobs = pq.SQLiteQueue(name="jobs", auto_commit=True, **place)
    for n in range(5):
        jobs.put(n)
    jobs.get()
    acks = pq.SQLiteAckQueue(name="acks", auto_resume=False, **place)
    for n in range(9):
        acks.put(n)
    acks.ack(acks.get())
    acks.ack_failed(acks.get())
    acks.nack(acks.get())
    acks.get()
    acks.get()
    last = pq.FILOSQLiteQueue(name="jobs", **place)
    last.put(1)
    unique = pq.UniqueAckQ(name="uniq", **place)
    unique.put("a")
    return jobs, acks, last, unique


def persist_queue_resumed(path: Path) -> object:
    """What is left for the library after a requeue: hands out everything, and says the items."""
    import persistqueue as pq

    acks = pq.SQLiteAckQueue(str(path.parent), name="acks", db_file_name=path.name, auto_resume=False)
    items = []
    while acks.size:
        items.append(acks.get(block=False))
        acks.ack(items[-1])
    Path(f"{path}.items").write_text(repr(sorted(items)))
    return acks


def huey_drained(path: Path) -> object:
    """A consumer's work until nothing is left, schedules too: says which tasks it ran."""
    from huey import SqliteHuey

    ran, kept = [], []
    for name in ("mail", "video"):
        queue = SqliteHuey(name, filename=str(path), results=True)

        @queue.task(name=f"ok_{name}")
        def ok(n: int, name: str = name) -> int:
            ran.append((name, n))
            return n

        for task in queue.read_schedule(datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)):
            task.eta = None  # as if its time had come
            queue.execute(task)
        while (task := queue.dequeue()) is not None:
            queue.execute(task)
        kept.append(queue)
    Path(f"{path}.items").write_text(repr(sorted(ran)))
    return kept


def persist_queue_unique(path: Path) -> object:
    """A unique queue in which one item is acknowledged and one handed out; and what it takes when both are put again."""
    import persistqueue as pq

    unique = pq.UniqueAckQ(str(path.parent), name="uniq", db_file_name=path.name, auto_resume=False)
    for item in ("a", "b"):
        unique.put(item)
    items = []
    while unique.size:
        item = unique.get(block=False, raw=True)
        items.append(item["data"])
        if items[-1] == "a":
            unique.ack(id=item["pqid"])
    Path(f"{path}.items").write_text(repr(items))
    return unique


MAKERS = {one.__name__: one for one in (huey, huey_drained, persist_queue, persist_queue_resumed, persist_queue_unique)}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    kept = MAKERS[sys.argv[1]](Path(sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.read()
