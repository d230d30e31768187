"""What this test run occupies: processes, threads, descriptors, mappings of anonymous files.

Descent does not find a process whose parent is gone, so each process of the run carries a mark
that both fork and exec pass on: a soft limit on POSIX message queues, which nothing here uses,
lowered to a number of this run's own.
"""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from garrison import _core

if TYPE_CHECKING:
    from collections.abc import Iterator

SELF = Path("/proc/self")


def put_mark() -> int:
    """Mark this process, and with it all that descend from it."""
    _, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
    mark = 100_000 + os.getpid() % 500_000
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (mark, hard))
    return mark


def marked_processes(mark: int) -> list[psutil.Process]:
    """Every process of the run but this one; a zombie only where we are the one to reap it."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _belongs(process, mark)
    ]


def _belongs(process: psutil.Process, mark: int) -> bool:
    try:
        if process.rlimit(resource.RLIMIT_MSGQUEUE)[0] != mark:
            return False
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return bool(not is_zombie or process.ppid() == os.getpid())
    except psutil.Error:
        return False


class Footprint:
    """What is there now; `taken_since` tells what an earlier one did not have."""

    def __init__(self, mark: int) -> None:
        # A thing's key is what makes it the same thing at a later look. Threads are numbered,
        # since faulthandler's timer is a new one in each test.
        self._things: dict[tuple[object, ...], psutil.Process | str] = {
            ("thread", n): _thread_names() for n, _ in enumerate(os.listdir(SELF / "task"))
        }
        for process in marked_processes(mark):
            self._things["process", process.pid, process.create_time()] = process
        kept = set(_core.open_descriptors())
        inodes = {str(os.fstat(fd).st_ino) for fd in kept}
        # The memory that the process fills with its objects. Another one may be filled later, and
        # what lies in this one, from before, still be there: it is open all along.
        self._kept: set[tuple[object, ...]] = set()
        for fd, target in _open_descriptors():
            if fd in kept:
                self._kept.add(("descriptor", fd, target))
            else:
                self._things["descriptor", fd, target] = target
        for inode, name in _memfd_mappings():
            if inode in inodes:
                self._kept.add(("memfd mapping", inode))
            else:
                self._things["memfd mapping", inode] = name

    def taken_since(self, earlier: Footprint) -> list[str]:
        """Name what has come since `earlier` and is still there."""
        new = self._things.keys() - earlier._things.keys() - earlier._kept
        return sorted(f"{key[0]} {key[1]}: {_describe(self._things[key])}" for key in new)


def _open_descriptors() -> Iterator[tuple[int, str]]:
    for fd in os.listdir(SELF / "fd"):
        try:
            yield int(fd), str((SELF / "fd" / fd).readlink())
        except OSError:  # the one that listed the folder
            continue


def _memfd_mappings() -> Iterator[tuple[str, str]]:
    for line in (SELF / "maps").read_text().splitlines():
        if "/memfd:" in line:
            addresses, _, _, _, inode, name = line.split(maxsplit=5)
            yield inode, f"{name} at {addresses}"


def _thread_names() -> str:
    return "one of " + ", ".join(thread.name for thread in threading.enumerate())


def _describe(thing: psutil.Process | str) -> str:
    if isinstance(thing, str):
        return thing
    try:
        return " ".join([thing.status(), thing.name(), *thing.cmdline()])[:160]
    except psutil.ZombieProcess:
        return "a zombie that nobody waited for"
    except psutil.Error:
        return "just gone"
