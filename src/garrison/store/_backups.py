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
import shutil
import warnings
from pathlib import Path

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import StoreCorrupt

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["back_up", "check_copy", "record_origin"]

DATA = "data.mdb"


def _origin(folder: Path) -> str:
    files = (folder, folder / "holders", folder / DATA)
    return " ".join(str(file.stat().st_ino) for file in files)


def record_origin(path: str) -> None:
    """Record which files this store consists of."""
    folder = Path(path)
    mark = folder / "origin"
    if not mark.exists() or mark.read_text("ascii") != _origin(folder):
        new = mark.with_suffix(".new")
        new.write_text(_origin(folder), "ascii")
        new.replace(mark)


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
    folder = Path(path)
    mark = folder / "origin"
    if not (folder / DATA).exists():
        if mark.exists():
            raise StoreCorrupt(f"{path} was a store, and its {DATA} is missing")
        return
    if mark.exists() and mark.read_text("ascii") == _origin(folder):
        return
    problem = _audit_in_child(audit)
    if problem:
        raise StoreCorrupt(
            f"{path} is not a sound store: {problem}. It was copied while it was written, or is "
            "damaged: make copies with manager.backup(), or while the store is not in use"
        )


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
    try:
        _write(backend, directory)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _write(backend: Any, directory: Path) -> None:
    # Under another name until it is complete: an interrupted backup is no store.
    part = directory / "part"
    part.touch(mode=0o600)
    with part.open("wb") as file:
        backend.copy_to(file.fileno())
        os.fsync(file.fileno())
    part.rename(directory / DATA)
    (directory / "holders").touch(mode=0o600)
    record_origin(str(directory))
    for folder in (directory, directory.parent):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
