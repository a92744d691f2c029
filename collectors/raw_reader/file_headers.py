"""Reads the first bytes of a database's files (as hexadecimal), and on which file system a file lies.

Runs in the raw reader: a process with SQLite must not open these files.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collectors.raw_reader.file_hold import CAN_PROBE, READS_WAL, find_blocking_process
from collectors.raw_reader.formats import DATABASE_HEADER_BYTES, WAL_INDEX_BYTES, parse_database_header, parse_wal_index

_TRIES = 20
READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # opening a pipe must not wait

# By the kernel's names (proc(5), mountinfo); a FUSE one has its program's name behind a dot. SQLite's locks are not reliable
# there, a WAL cannot be shared over them (https://sqlite.org/wal.html), and a question about a lock may wait for a server.
NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs",
    "fuse.blobfuse2", "fuse.ceph-fuse", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs",
    "fuse.lizardfs", "fuse.mfs", "fuse.moosefs", "fuse.mount_s3", "fuse.rclone", "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs",
})  # fmt: skip

_file_systems: dict[int, str] = {}


def read_database_header_hex(path: str) -> str | None:
    """Read the header of a database; None when there is no such file. Raises OSError."""
    data = _read_head(path, DATABASE_HEADER_BYTES)
    return None if data is None else data.hex()


def read_wal_index_hex(path: str) -> str | None:
    """Read the header of the WAL-index of a database, again while a writer changes it. Raises OSError."""
    return read_wal_index_and_readers(path)[0]


def read_wal_index_and_readers(path: str) -> tuple[str | None, bool]:
    """Read the same, and whether a process reads the WAL now (true also where that is unknown). Raises OSError."""
    with _open_regular_file(path + "-shm") as descriptor:
        if descriptor is None:
            return None, False
        reading = not CAN_PROBE or find_blocking_process(descriptor, READS_WAL) is not None
        for _ in range(_TRIES):
            data = os.pread(descriptor, WAL_INDEX_BYTES, 0)
            if len(data) < WAL_INDEX_BYTES:
                break
            if parse_wal_index(data) is not None:
                return data.hex(), reading
        return None, reading


def has_hot_journal(path: str) -> bool:
    """Whether a live rollback journal lies beside a database. Raises OSError.

    A journal whose header is zeroed or gone is finished (PRAGMA journal_mode=PERSIST or TRUNCATE).
    """
    data = _read_head(path + "-journal", 1)
    return bool(data) and data != b"\0"


def is_wal_header(header: str | None) -> bool:
    """Whether this is the header of a database in WAL mode."""
    return (
        header is not None
        and len(header) == 2 * DATABASE_HEADER_BYTES
        and parse_database_header(bytes.fromhex(header)).wal
    )


def _read_head(path: str, size: int) -> bytes | None:
    """The first bytes of a regular file, None when there is none."""
    with _open_regular_file(path) as descriptor:
        return None if descriptor is None else os.read(descriptor, size)


@contextmanager
def _open_regular_file(path: str) -> Iterator[int | None]:
    """Open a regular file; None when there is none. Closed in any case."""
    try:
        descriptor = os.open(path, READ_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # then there is no such file
            raise
        yield None
        return
    try:
        yield descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def file_system_type(path: str) -> str:
    """The kernel's name of the file system that `path` lies on ("ext4", "nfs4"); empty where it is unknown."""
    try:
        device = os.stat(path).st_dev  # noqa: PTH116 - thousands of these a second: no Path is built for them
        if device not in _file_systems:
            words = mount_words(path)
            _file_systems[device] = words[words.index("-") + 1] if "-" in words else ""
    except FileNotFoundError:
        return ""
    return _file_systems[device]


def mount_device(path: str) -> tuple[int, int] | None:
    """(major, minor) of the mount that `path` lies in, as the kernel's tables name it; None where it is unknown."""
    words = mount_words(path)
    if not words:
        return None
    major, minor = words[2].split(":")
    return int(major), int(minor)


def mount_words(path: str) -> list[str]:
    """The words that /proc/self/mountinfo has about the mount of `path`. O_PATH opens no file, so that no lock can be lost."""
    if not hasattr(os, "O_PATH"):
        return []
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        mount = next((line.split()[1] for line in info.splitlines() if line.startswith("mnt_id:")), "")
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
        return next((words for words in map(str.split, lines) if words[0] == mount), [])
    except FileNotFoundError:
        return []
    finally:
        os.close(descriptor)
