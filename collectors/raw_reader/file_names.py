"""Whether a database file has other names than this one: hard links, mounts of the single file, layers of an overlay.

SQLite puts -wal, -shm and -journal beside the name by which a process opened the database. By another name they are
invisible, and a process there works on the same pages without knowing of them
(https://sqlite.org/howtocorrupt.html, section 2.4). Runs in the raw reader.
"""

import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectors.raw_reader.file_headers import READ_FLAGS, mount_words
from collectors.raw_reader.file_hold import CAN_PROBE, find_shared_holder

MOUNTS = Path("/proc/self/mountinfo")
SIDECARS = ("-wal", "-shm", "-journal")
# The search for other hard links ends after so many seconds; they are looked for near the file.
SEARCH_SECONDS = 0.3
# A search is not repeated within so many seconds, while the file has as many links.
SEARCH_AGAIN = 60.0


@dataclass(frozen=True, slots=True)
class _MountTable:
    """The last names of all mount points, and of overlays the writable layer and the mount point."""

    names: frozenset[str]
    layers: tuple[tuple[str, str], ...]


_mount_table = _MountTable(frozenset(), ())
_searches: dict[str, tuple[float, int, list[str]]] = {}
_mount_events: Any = None  # a poll object, which not every system has


def read_name_signals(path: str) -> dict[str, Any] | None:
    """What hints at another name, for a few microseconds; None when there is no regular file. Raises OSError.

    `links`; `mounted_from`: where the file is on its disk, if it is itself a mount point, else ""; `layer_of`: its path in
    the overlay in whose writable layer it lies, else "". `shared_by`: a process with a shared lock on it (see file_hold),
    asked only where no -shm shows what a WAL's processes do; `index_alone`: there is a -shm and no -wal.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - thousands of these a second: no Path is built for them
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    index = os.path.exists(path + "-shm")  # noqa: PTH110 - as above
    return {
        "links": status.st_nlink,
        "mounted_from": file_mount_source(path),
        "layer_of": overlay_path(path),
        "shared_by": None if index else shared_lock_holder(path),
        "index_alone": index and not os.path.exists(path + "-wal"),  # noqa: PTH110 - as above
    }


def shared_lock_holder(path: str) -> int | None:
    """A process with a shared lock on what SQLite locks (or NOT_VISIBLE, NOT_NAMED), None without one. Raises OSError."""
    if not CAN_PROBE:
        return None
    descriptor = os.open(path, READ_FLAGS)
    try:
        return find_shared_holder(descriptor)
    finally:
        os.close(descriptor)


def file_mount_source(path: str) -> str:
    """The path on its disk of a file that is itself a mount point (a bind mount of a single file), else ""."""
    if sys.platform != "linux" or os.path.basename(path) not in _current_mounts().names:  # noqa: PTH119 - hot
        return ""
    words = mount_words(path)
    return unescape_mount(words[3]) if words and unescape_mount(words[4]) == os.path.realpath(path) else ""


def overlay_path(path: str) -> str:
    """The path in the mounted overlay of a file in its writable layer, else "". Both are one file with two sets of locks."""
    layers = _current_mounts().layers if sys.platform == "linux" else ()
    if not layers:
        return ""
    real = os.path.realpath(path)
    return next((place + real.removeprefix(layer) for layer, place in layers if real.startswith(layer + "/")), "")


def find_single_mounts(path: str, until: float) -> list[tuple[int, str]]:
    """Where else this file is mounted by itself and may be written: (a process that sees the mount, its mount point).

    Each mount namespace (a container has its own) is read once, through one of its processes, until a monotonic time.
    """
    words = mount_words(path)
    if not words:
        return []
    real = os.path.realpath(path)
    source = os.path.normpath(os.path.join(unescape_mount(words[3]), os.path.relpath(real, unescape_mount(words[4]))))  # noqa: PTH118
    ours = os.readlink("/proc/self/ns/mnt")  # noqa: PTH115 - a str, as below
    mounts, seen = [], set()
    for process in (place for place in Path("/proc").iterdir() if place.name.isdigit()):
        try:
            space = os.readlink(process / "ns" / "mnt")  # noqa: PTH115 - a str, of thousands
            if time.monotonic() > until or space in seen:
                continue
            seen.add(space)
            lines = (process / "mountinfo").read_text(errors="surrogateescape").splitlines()
        except OSError:  # it ended, or it is another user's
            continue
        points = _mount_points(lines, words[2], source)
        mounts += [(int(process.name), place) for place in points if place != real or space != ours]
    return mounts


def _mount_points(lines: list[str], device: str, source: str) -> Iterator[str]:
    """The mount points of one file that are not read-only, in a mountinfo."""
    for words in map(str.split, lines):
        if words[2] == device and unescape_mount(words[3]) == source and "ro" not in words[5].split(","):
            yield unescape_mount(words[4])


def find_other_names(path: str, links: int, now: float) -> tuple[list[str], bool]:
    """Find other hard links near the file. Returns them, and whether these are all. `now`: monotonic seconds.

    One search for each file within SEARCH_AGAIN, bounded by SEARCH_SECONDS.
    """
    at, for_links, others = _searches.get(path, (0.0, 0, []))
    status = Path(path).stat()
    if for_links != links or now - at >= SEARCH_AGAIN or not all(_is_same(Path(other), status) for other in others):
        others = _search_links(path, status, now + SEARCH_SECONDS)
        _searches[path] = (now, links, others)
    return others, len(others) >= links - 1


def _search_links(path: str, status: os.stat_result, until: float) -> list[str]:
    here, others = Path(os.path.realpath(path)), []
    for place in _walk_entries(here.parent, until):
        if place.inode() == status.st_ino and Path(place.path) != here and _is_same(Path(place.path), status):
            others.append(place.path)
        if len(others) >= status.st_nlink - 1:
            break
    return others


def sidecars_beside(names: list[str]) -> list[str]:
    """The -wal and -journal beside these names that are not empty."""
    places = (Path(name + suffix) for name in names for suffix in ("-wal", "-journal"))
    return [str(place) for place in places if place.exists() and place.stat().st_size > 0]


def unescape_mount(text: str) -> str:
    """A path as it is, from the octal escapes of /proc/self/mountinfo (proc(5))."""
    for code in (" ", "\t", "\n", "\\"):
        text = text.replace(f"\\{ord(code):03o}", code)
    return text


def _current_mounts() -> _MountTable:
    """The mounts of our namespace, read again only when the kernel says that they changed (proc(5))."""
    global _mount_table, _mount_events
    if _mount_events is None:
        descriptor = os.open(MOUNTS, os.O_RDONLY | os.O_CLOEXEC)  # stays open: its events are what is waited for
        _mount_events = select.poll()
        _mount_events.register(descriptor, select.POLLPRI)
    elif not _mount_events.poll(0):
        return _mount_table
    mounts = [line.split() for line in MOUNTS.read_text(errors="surrogateescape").splitlines()]
    names = frozenset(os.path.basename(unescape_mount(words[4])) for words in mounts)  # noqa: PTH119 - a str
    _mount_table = _MountTable(names, tuple(layer for words in mounts for layer in _writable_layer(words)))
    return _mount_table


def _writable_layer(words: list[str]) -> Iterator[tuple[str, str]]:
    """The writable layer of an overlay and its mount point, of one line of a mountinfo."""
    if words[words.index("-") + 1] == "overlay":
        options = dict(option.partition("=")[::2] for option in words[-1].split(","))
        if options.get("upperdir", "").startswith("/"):
            yield unescape_mount(options["upperdir"]), unescape_mount(words[4]).rstrip("/")


def _walk_entries(folder: Path, until: float) -> Iterator[os.DirEntry[str]]:
    """The files of a folder, of those below it and of its neighbours, until a monotonic time."""
    waiting, seen = [folder, folder.parent], set()
    while waiting and time.monotonic() < until:
        place = waiting.pop(0)
        if place in seen:
            continue
        seen.add(place)
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    else:
                        yield entry
        except OSError:  # not ours to read: the search is then not complete
            continue


def _is_same(place: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(place.lstat(), status)
    except OSError:
        return False
