"""On which file system a file lies: by the kernel's name, and whether it is another machine's. Opens no file."""

import os
from pathlib import Path

# By the kernel's names (proc(5), mountinfo); a FUSE one has its program's name behind a dot. SQLite's locks are not reliable
# there, a WAL cannot be shared over them (https://sqlite.org/wal.html), and a question about a lock may wait for a server.
NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs",
    "fuse.blobfuse2", "fuse.ceph-fuse", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs",
    "fuse.lizardfs", "fuse.mfs", "fuse.moosefs", "fuse.mount_s3", "fuse.rclone", "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs",
})  # fmt: skip

_file_systems: dict[int, str] = {}


def file_system_type(path: str) -> str:
    """The kernel's name of the file system that `path` lies on ("ext4", "nfs4"); empty where it is not told."""
    try:
        device = os.stat(path).st_dev  # noqa: PTH116 - thousands of these a second: no Path is built for them
        if device not in _file_systems:
            words = _mount_info(path)
            _file_systems[device] = words[words.index("-") + 1] if "-" in words else ""
    except FileNotFoundError:
        return ""
    return _file_systems[device]


def mount_device(path: str) -> tuple[int, int] | None:
    """(major, minor) of the mount that `path` lies in, as the kernel's tables name it; None where it is not told."""
    words = _mount_info(path)
    if not words:
        return None
    major, minor = words[2].split(":")
    return int(major), int(minor)


def _mount_info(path: str) -> list[str]:
    """The line of /proc/self/mountinfo of the mount of `path`. O_PATH opens no file, so it has no locks to lose."""
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
