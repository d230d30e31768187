"""Shared memory that has names: files in a folder that is memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from garrison._os import PROC

NAMED = Path("/dev/shm")  # noqa: S108 - where the system's own shm_open puts them


def shm_path(name: str) -> str:
    """Return the file behind a name of shared memory, read as ``shm_open`` reads it."""
    plain = name.lstrip("/")
    if plain in {"", ".", ".."} or "/" in plain:
        raise OSError(errno.EINVAL, "a name without slashes is needed for shared memory", name)
    return f"{NAMED}/{plain}"


def create_shm_file(path: str, size: int, mode: int) -> int:
    """Make a file of so many bytes that are really there; it has its name once it is whole."""
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
"""What is said where there are no files without names, or no ``/proc`` to give them one by."""


def _create_nameless(path: str, size: int, mode: int, folder: int) -> int:
    fd = os.open(NAMED, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        _reserve(fd, size)
        # Only with a folder's descriptor Python calls linkat, which looks through /proc.
        os.link(f"{PROC}/self/fd/{fd}", Path(path).name, dst_dir_fd=folder)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create_renamed(path: str, size: int, mode: int) -> int:
    """Make it under another name, which whoever is killed meanwhile leaves behind."""
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
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in {errno.ENOSYS, errno.EPERM}:
            raise
        zeros = bytes(min(size, 1 << 20))
        for start in range(0, size, 1 << 20):
            os.pwrite(fd, zeros[: size - start], start)
