"""Shared memory: its owners, leftovers, and what happens when it is full."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from waiting import becomes_true

from .registry import row
from .seccomp import refuse_fallocate
from .subject import PATIENCE, Subject, Wrong, check, same
from .system import meminfo_kib
from .victims import Victim, nothing_left

MEGABYTE = 1 << 20
KILLS = 10

READER = """
import importlib, sys
block = importlib.import_module(sys.argv[1]).SharedMemory(sys.argv[2])
assert block.buf[0] == 7
block.close()
"""


def names_of(subject: Subject) -> Any:
    """The module that has `SharedMemory`."""
    package = "garrison.memory" if subject.is_garrison else subject.name
    return importlib.import_module(f"{package}.shared_memory")


def values_of(subject: Subject) -> Any:
    """The module that has `Value` and `Array`."""
    return importlib.import_module("garrison.sync" if subject.is_garrison else subject.name)


@contextmanager
def block(subject: Subject, size: int = 100) -> Iterator[Any]:
    """A block with a name, which is removed whatever happens."""
    made = names_of(subject).SharedMemory(create=True, size=size)
    made.buf[0] = 7
    try:
        yield made
    finally:
        made.close()
        with contextlib.suppress(FileNotFoundError):
            made.unlink()


@row("unrelated process attaches a shared block by name, reads it and ends", source="#35")
def reader_ends(subject: Subject) -> None:
    with block(subject) as made:
        for _ in range(2):
            command = [sys.executable, "-c", READER, names_of(subject).__name__, made.name]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            check(ran.returncode == 0, "the block is gone")
            check(not (subject.is_garrison and ran.stderr), ran.stderr)


@row(
    "shared block unlinked by another process, and its name taken again",
    source="#35",
    fine=["*"],
)
def name_is_taken_again(subject: Subject) -> None:
    module = names_of(subject)
    with block(subject) as made:
        code = READER.replace("block.close()", "block.unlink()")
        command = [sys.executable, "-c", code, module.__name__, made.name]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        same((ran.returncode, ran.stderr), (0, ""))
        again = module.SharedMemory(made.name, create=True, size=10)
        same((made.buf[0], again.buf[0]), (7, 0))
        again.unlink()
        again.close()


@row("zero bytes at the end of items of a `ShareableList`", source="matrix")
def zero_bytes_at_the_end(subject: Subject) -> None:
    items = [b"a\0\0", "b\0", b"\0"]
    made = names_of(subject).ShareableList(items)
    try:
        same(list(made), items)
    finally:
        made.shm.close()
        made.shm.unlink()


@row("whole tree killed while it works on shared arrays", source="#36", limit=40.0, fine=["-fork"])
def tree_killed_with_arrays(subject: Subject) -> None:
    before = meminfo_kib("Shmem")
    with TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder  # where a fork server leaves its socket when it is killed
        for _ in range(KILLS):
            with Victim(subject, fill_arrays) as victim:
                victim.line()
                os.killpg(victim.process.pid, signal.SIGKILL)
                nothing_left(1.0)
    allowed = before + KILLS * 20 * 1024 // 2
    becomes_true(lambda: meminfo_kib("Shmem") < allowed, PATIENCE)
    check(meminfo_kib("Shmem") < allowed, "shared memory is left")


def fill_arrays(subject: Subject) -> None:
    """Fill 20 MB of shared memory, hand it to a child, and say so."""
    module = values_of(subject)
    array, value = module.Array("i", 5 * MEGABYTE), module.Value("i")
    array[:] = [1] * len(array)
    child = subject.module.Process(target=work_on, args=(array, value))
    child.start()
    while not value.value:
        pass
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    child.join()


def work_on(array: Any, value: Any) -> None:
    """Write for ever."""
    number = 0
    while True:
        number += 1
        array[number % len(array)] = number % 1000
        value.value = 1


def _make_value(subject: Subject) -> Any:
    return [values_of(subject).Value("i") for _ in range(10_000)]


def _make_array(subject: Subject) -> Any:
    return values_of(subject).Array("i", MEGABYTE)


def _make_block(subject: Subject) -> Any:
    return names_of(subject).SharedMemory(create=True, size=MEGABYTE)


MAKERS: dict[str, Callable[[Subject], Any]] = {
    "values": _make_value,
    "an array": _make_array,
    "a block": _make_block,
}


@row("no memory can be reserved (ENOSPC) for", source="#37", cases=list(MAKERS))
def no_memory_for_values(subject: Subject, what: str) -> None:
    module = values_of(subject)
    before = module.Value("i", 5)
    refuse_fallocate(errno.ENOSPC)
    try:
        made = MAKERS[what](subject)
    except MemoryError as error:
        check("no room" in str(error), str(error))
    else:
        if hasattr(made, "unlink"):
            made.unlink()
        message = "memory was promised that is not there: to use it may be fatal"
        raise Wrong(message)
    same(before.value, 5)
