"""Gives a file a name that no file has, or exchanges two names, in whichever way the file system offers.

Three ways, each of which never overwrites: renameat2(2) with RENAME_NOREPLACE, one step; a hard link, whose old name is
removed afterwards; and a rename over an empty placeholder that O_EXCL made. FAT, many FUSE and container file systems have
no hard links, NFS and older ones no RENAME_NOREPLACE. A server may do what was asked and lose its answer: a name that
leads to the same file was given.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

_NOREPLACE, _EXCHANGE = 1, 2  # linux/fs.h
_AT_FDCWD = -100
# A disk without room is no missing ability: the next way would not have it either.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def move_without_overwrite(source: Path, destination: Path) -> None:
    """Rename a file; `destination` is never overwritten. Raises FileExistsError, or OSError of the first way that failed."""
    first: OSError | None = None
    for way in (_rename_unless_exists, _link_and_remove, _rename_over_placeholder):
        try:
            return way(source, destination)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            first = first or error
    assert first is not None  # noqa: S101 each way returned or raised
    raise first


def replace_keeping_old(target: Path, restored: Path, aside: Path) -> None:
    """Give `restored` the name of `target`, and the file that was there the name `aside`, in a way that leaves no gap.

    By an exchange; else by a link, where a kill in between leaves the old file with two names; else by two renames, with a gap
    between them. A way that fails leaves all as it was.
    Raises FileExistsError, OSError of the first way that failed.
    """
    first: OSError | None = None
    for way in (_exchange_and_rename, _replace_linked, _rename_twice):
        try:
            return way(target, restored, aside)
        except FileExistsError:
            raise
        except OSError as error:
            first = first or error
    assert first is not None  # noqa: S101 each way returned or raised
    raise first


def _replace_linked(target: Path, restored: Path, aside: Path) -> None:
    os.link(target, aside, follow_symlinks=False)
    try:
        restored.replace(target)
    except OSError:
        with suppress(OSError):
            aside.unlink()
        raise


def _exchange_and_rename(target: Path, restored: Path, aside: Path) -> None:
    """Not from a partial name, which a later run would remove: the old file has it for a moment."""
    move_without_overwrite(restored, aside)
    try:
        _call_renameat2(aside, target, _EXCHANGE)
    except OSError:
        aside.rename(restored)
        raise


def _rename_twice(target: Path, restored: Path, aside: Path) -> None:
    move_without_overwrite(target, aside)
    try:
        move_without_overwrite(restored, target)
    except OSError:
        aside.rename(target)
        raise


def _rename_unless_exists(source: Path, destination: Path) -> None:
    _call_renameat2(source, destination, _NOREPLACE)


def _link_and_remove(source: Path, destination: Path) -> None:
    try:
        os.link(source, destination)
    except OSError:
        if not _is_same_file(source, destination):
            raise
    with suppress(OSError):  # the final name is there; a partial name that stays is removed by the next run
        source.unlink()


def _rename_over_placeholder(source: Path, destination: Path) -> None:
    descriptor = os.open(destination, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0), 0o600)
    placeholder = os.fstat(descriptor)
    os.close(descriptor)
    try:
        if not _is_empty_placeholder(destination, placeholder):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(destination))
        source.rename(destination)
    except OSError:
        with suppress(OSError):
            if _is_empty_placeholder(destination, placeholder):
                destination.unlink()
        raise


def _is_empty_placeholder(path: Path, placeholder: os.stat_result) -> bool:
    status = path.lstat()
    return os.path.samestat(status, placeholder) and status.st_size == 0


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(one.lstat(), other.lstat())
    except OSError:
        return False


def _call_renameat2(source: Path, destination: Path, flags: int) -> None:
    """Raises OSError; ENOSYS where the C library has no such function."""
    function = _renameat2()
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(source), None, str(destination))
    code = function(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(destination), flags)
    if code != 0:
        raise OSError(code, os.strerror(code), str(source), None, str(destination))


@cache
def _renameat2() -> Callable[..., int] | None:
    """renameat2 of the C library, returning the errno of a failed call, else 0; None where there is none.

    Loaded where it is called: a Python without libffi has no ctypes.
    """
    try:
        import ctypes

        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, ImportError, OSError, TypeError):  # macOS, Windows, musl before 1.2.6
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    return lambda *arguments: 0 if function(*arguments) == 0 else ctypes.get_errno()
