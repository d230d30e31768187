"""Named shared memory: files in a file system in memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from garrison import _core
from garrison._os import PROC

NAMED = Path("/dev/shm")  # noqa: S108 - where the system's own shm_open puts them


def shm_path(name: str) -> str:
    """Return the file behind a name of shared memory, read as ``shm_open`` reads it."""
    plain = name.lstrip("/")
    if plain in {"", ".", ".."} or "/" in plain:
        raise OSError(errno.EINVAL, "a name without slashes is needed for shared memory", name)
    return f"{NAMED}/{plain}"


def create_shm_file(path: str, size: int, mode: int) -> int:
    """Make a file with `size` reserved bytes; it gets its name once it is complete."""
    folder = os.open(NAMED, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            return _create_nameless(path, size, mode, folder)
        except OSError as error:
            if error.errno not in _NO_NAMELESS:
                raise
        return _create_renamed(path, size, mode)
    finally:
        os.close(folder)


_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})
"""Errors of systems without unnamed files, or without ``/proc`` to name them."""


def _create_nameless(path: str, size: int, mode: int, folder: int) -> int:
    fd = os.open(NAMED, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        _reserve(fd, size)
        # Python calls linkat, which follows /proc, only with a directory's descriptor.
        os.link(f"{PROC}/self/fd/{fd}", Path(path).name, dst_dir_fd=folder)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create_renamed(path: str, size: int, mode: int) -> int:
    """Make it under a temporary name, which is left over if the process is killed."""
    draft = f"{NAMED}/garrison-{os.getpid()}-{os.urandom(8).hex()}"
    fd = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        _reserve(fd, size)
        os.link(draft, path)
    except BaseException:
        os.close(fd)
        raise
    finally:
        Path(draft).unlink()
    return fd


def _reserve(fd: int, size: int) -> None:
    """Give a new file its length and memory."""
    _core.ask_for_memory(size, f"shared memory of {size:,} bytes")
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in {errno.ENOSYS, errno.EPERM}:
            raise
        zeros = bytes(min(size, 1 << 20))
        for start in range(0, size, 1 << 20):
            os.pwrite(fd, zeros[: size - start], start)
