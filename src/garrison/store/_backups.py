"""Backups of stores, and the check of a directory that may be a damaged copy.

A directory that was copied while its store was written has pages of several states, and LMDB does
not notice. So each directory records the inodes of its files. A copy has other ones; then the store
is audited before it is used, in a child process, since reading damaged pages may crash.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import warnings
from pathlib import Path

from garrison._os import file_trust
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import StoreCorrupt
from garrison.store._damage import not_sound
from garrison.store._folder import DATA, HOLDERS, ORIGIN

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["back_up", "check_copy", "record_origin"]

PART = "part"
"""The data of a backup until it is complete."""


def _origin(folder: int) -> str:
    """Return which files a store consists of."""
    files = (os.stat(name, dir_fd=folder, follow_symlinks=False) for name in (HOLDERS, DATA))
    return " ".join(str(status.st_ino) for status in (os.fstat(folder), *files))


def _recorded_origin(folder: int, path: str) -> str | None:
    try:
        fd = file_trust.open_in(folder, ORIGIN, os.O_RDONLY, path)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, encoding="ascii", errors="replace") as file:
        return file.read()


def record_origin(path: str) -> None:
    """Record which files this store consists of."""
    folder = file_trust.open_folder(path)
    try:
        _record_origin(folder, path)
    finally:
        os.close(folder)


def _record_origin(folder: int, path: str) -> None:
    origin = _origin(folder)
    if _recorded_origin(folder, path) != origin:
        file_trust.replace_in(folder, ORIGIN, origin.encode("ascii"), path)


def check_copy(path: str, audit: Callable[[], list[str]]) -> None:
    """Audit a store if it is a copy.

    Parameters
    ----------
    path : str
        The directory.
    audit : callable
        Opens the store, and returns what is wrong with it.

    Raises
    ------
    StoreCorrupt
        If it is damaged.
    """
    folder = file_trust.open_folder(path)
    try:
        recorded = _recorded_origin(folder, path)
        if not Path(path, DATA).exists():
            if recorded is not None:
                raise StoreCorrupt(f"{path} was a store, and its {DATA} is missing")
            return
        if recorded == _origin(folder):
            return
    finally:
        os.close(folder)
    problem = _audit_in_child(audit)
    if problem:
        raise not_sound(path, problem)


def _audit_in_child(audit: Callable[[], list[str]]) -> str:
    """Return what is wrong. The audit runs in a child process: it may crash."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: it only reads and ends
        pid = os.fork()
    if not pid:
        _report(writer, audit)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    return text if not status else text or "reading it crashes"


def _report(writer: int, audit: Callable[[], list[str]]) -> None:
    status = 1
    with contextlib.suppress(BaseException):
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            problems = audit()
        except Exception as error:
            problems = [str(error)]
        os.write(writer, "; ".join(problems[:3]).encode()[:4000])
        status = 0
    os._exit(status)


def back_up(backend: Any, path: str | os.PathLike[str]) -> None:
    """Write the last committed state of a store into a new directory.

    Raises
    ------
    FileExistsError
        If there is something at the path.
    """
    directory = Path(path).absolute()
    directory.mkdir(mode=0o700)
    folder = file_trust.open_folder(str(directory))
    try:
        _write(backend, folder, str(directory))
    except BaseException:
        _remove(folder, directory)
        raise
    finally:
        os.close(folder)
    _flush_folder(directory.parent)


def _remove(folder: int, directory: Path) -> None:
    """Remove an incomplete backup: its own files, and the folder if nothing else is in it."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(name, dir_fd=folder)
        directory.rmdir()


def _write(backend: Any, folder: int, path: str) -> None:
    # Under another name until it is complete: an interrupted backup is no store.
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(file_trust.open_in(folder, PART, new, path), "wb") as file:
        backend.copy_to(file.fileno())
        os.fsync(file.fileno())
    os.rename(PART, DATA, src_dir_fd=folder, dst_dir_fd=folder)
    os.close(file_trust.open_in(folder, HOLDERS, new, path))
    _record_origin(folder, path)
    os.fsync(folder)


def _flush_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
