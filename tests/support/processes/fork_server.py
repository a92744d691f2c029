"""Runs modules of ours in forked copies of itself, in which they are loaded already. usage: fork_server.py SOCKET

Loading our modules costs a new Python process half a second of CPU time, most of what a short action or command costs. A
job is one message on the socket: JSON, and four descriptors: standard input, output and errors, and where its exit status
goes. The answer is the process number. The server ends with the other end of the socket.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import resource
import runpy
import select
import signal
import socket
import sys
import time
from typing import Any

BYTE_ORDER = "little"
Job = dict[str, Any]


def serve_until_forked(jobs: socket.socket) -> Job | None:
    """The job that this process shall run, in a forked copy; None in the server, once the other end is closed."""
    status_pipes: dict[int, int] = {}
    children_ended, child_ended = os.pipe()
    os.set_blocking(child_ended, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(child_ended)
    while True:
        ready, _, _ = select.select([jobs, children_ended], [], [])
        if children_ended in ready:
            os.read(children_ended, 4096)
            report_ended_children(status_pipes)
        if jobs not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(jobs, 1 << 20, 4)
        if not message:
            return None
        job: Job = json.loads(message)
        with contextlib.suppress(Exception):  # the copy fails in the same way, and says so on its own error output
            load_modules(job["module"])
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            become_child(job, descriptors[:3])
            for descriptor in (*descriptors, *status_pipes.values(), children_ended, child_ended, jobs.detach()):
                os.close(descriptor)
            return job
        for descriptor in descriptors[:3]:
            os.close(descriptor)
        status_pipes[child] = descriptors[3]
        jobs.send(child.to_bytes(8, BYTE_ORDER))


def report_ended_children(status_pipes: dict[int, int]) -> None:
    """Write the exit status of every ended child into its pipe."""
    while status_pipes:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        pipe = status_pipes.pop(child)
        with contextlib.suppress(BrokenPipeError):  # the caller has gone
            os.write(pipe, os.waitstatus_to_exitcode(status).to_bytes(4, BYTE_ORDER, signed=True))
        os.close(pipe)


def load_modules(name: str) -> None:
    """Import a module, or every module of a package that has a `__main__`: commands are imported when they are looked up."""
    if name in sys.modules:
        return
    module = importlib.import_module(name)
    for part in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if not part.name.endswith(".__main__"):
            importlib.import_module(part.name)
    if name == "exporter.commands":
        importlib.import_module("exporter.agent")
    gc.collect()
    gc.freeze()  # so that the copies share this memory


def become_child(job: Job, descriptors: list[int]) -> None:
    """Take over the caller's directory, environment, limit of file sizes, descriptors and command line."""
    if job["new_session"]:
        os.setsid()
    os.chdir(job["directory"])
    os.umask(job["umask"])
    resource.setrlimit(resource.RLIMIT_FSIZE, tuple(job["file_size_limit"]))
    os.environ.clear()
    os.environ.update(job["environment"])
    time.tzset()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    sys.argv = [job["module"], *job["arguments"]]


if __name__ == "__main__":
    forked_job = serve_until_forked(socket.socket(fileno=int(sys.argv[1])))
    if forked_job is not None:
        loaded = sys.modules.get(forked_job["module"])
        if loaded is not None and not hasattr(loaded, "__path__"):
            del sys.modules[forked_job["module"]]  # it becomes `__main__`, as in a process of its own
        runpy.run_module(forked_job["module"], run_name="__main__", alter_sys=True)
