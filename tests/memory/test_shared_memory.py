"""`SharedMemory`: blocks that have names, and none of the standard library's surprises."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from garrison.errors import SharedMemoryFull
from garrison.memory.shared_memory import SharedMemory
from memory import jobs


@contextlib.contextmanager
def block(size: int = 100, **options: Any) -> Iterator[SharedMemory]:
    made = SharedMemory(create=True, size=size, **options)
    try:
        yield made
    finally:
        with contextlib.suppress(FileNotFoundError):
            made.unlink()
        made.close()


def run(code: str, *args: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a program that has nothing to do with this one."""
    head = "import os, signal, sys\nfrom garrison.memory.shared_memory import *\n"
    command = [sys.executable, "-c", head + code, *args]
    return subprocess.run(command, capture_output=True, text=True, check=check)


def test_block_is_attached_by_name_and_by_pickle() -> None:
    with block(5000) as one:
        one.buf[:4] = b"data"
        assert (one.size, len(one.buf)) == (5000, 5000)
        assert repr(one) == f"SharedMemory({one.name!r}, size=5000)"
        for two in (SharedMemory(one.name), pickle.loads(pickle.dumps(one))):
            two.buf[0] += 1
            two.close()
            assert two.buf is None
        assert bytes(one.buf[:4]) == b"fata"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"create": True, "size": -1}, ValueError),
        ({"create": True, "size": 0}, ValueError),
        ({"create": True}, ValueError),
        ({}, ValueError),
        ({"create": True, "size": 2.5}, TypeError),
        ({"name": "garrison-is-not-there"}, FileNotFoundError),
        ({"name": "a/b"}, OSError),
        ({"name": ""}, OSError),
        ({"name": ".."}, OSError),
        ({"name": "a\0b"}, ValueError),
        ({"name": "x" * 300, "create": True, "size": 1}, OSError),
        ({"create": True, "size": 1 << 50}, SharedMemoryFull),
    ],
)
def test_bad_input_is_refused_and_nothing_is_left(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    before = os.listdir("/dev/shm")
    with pytest.raises(error):
        SharedMemory(**arguments)
    assert os.listdir("/dev/shm") == before


def test_a_name_is_taken_once_and_unlinked_once() -> None:
    with block() as one:
        with pytest.raises(FileExistsError):
            SharedMemory(one.name, create=True, size=5)
        other = SharedMemory(one.name)
        other.unlink()
        other.close()
        with pytest.raises(FileNotFoundError):
            one.unlink()
        one.buf[0] = 1  # who has it keeps it
        with block(name=one.name) as again:
            assert again.buf[0] == 0


def test_a_view_makes_close_an_error_and_the_block_stays_usable() -> None:
    with block() as one:
        view = one.buf[10:20]
        with pytest.raises(BufferError):
            one.close()
        one.buf[10] = 7
        assert view[0] == 7
        view.release()
        one.close()


def test_a_view_outlives_the_object() -> None:
    with block() as one:
        view = SharedMemory(one.name).buf[:10]
        one.buf[0] = 9
        assert view[0] == 9


def test_an_unrelated_reader_destroys_nothing() -> None:
    with block() as one:
        ran = run("print(SharedMemory(sys.argv[1]).size)", one.name, check=True)
        assert (ran.stdout, ran.stderr) == ("100\n", "")
        SharedMemory(one.name).close()


def test_an_unrelated_process_may_unlink() -> None:
    with block() as one:
        ran = run("SharedMemory(sys.argv[1]).unlink()", one.name, check=True)
        assert ran.stderr == ""
        with pytest.raises(FileNotFoundError):
            SharedMemory(one.name)


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_forgotten_block_is_removed_at_exit(end: str) -> None:
    ran = run(f"print(SharedMemory(create=True, size=9).name, flush=True)\n{end}")
    name = ran.stdout.strip()
    assert ran.returncode == (-signal.SIGKILL if end else 0)
    # All that held its output are gone, the tracker as well: it has said what it had to say.
    assert "1 leaked shared_memory" in ran.stderr
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)


def test_untracked_block_stays() -> None:
    ran = run("print(SharedMemory(create=True, size=9, track=False).name)", check=True)
    kept = SharedMemory(ran.stdout.strip())
    assert (kept.size, ran.stderr) == (9, "")
    kept.unlink()
    kept.close()


def test_block_of_a_child_is_removed_by_the_program() -> None:
    code = """
import multiprocessing
from multiprocessing import resource_tracker
def create(names):
    block = SharedMemory(create=True, size=9)
    names.put(block.name)
if __name__ == "__main__":
    resource_tracker.ensure_running()
    context = multiprocessing.get_context("fork")
    names = context.SimpleQueue()
    child = context.Process(target=create, args=(names,))
    child.start()
    name = names.get()
    child.join()
    block = SharedMemory(name)
    block.buf[0] = 1
    block.unlink()
"""
    ran = run(code)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_full_folder_is_an_error_at_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = os.listdir("/dev/shm")
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(SharedMemoryFull, match="no room for 100 bytes"):
        SharedMemory(create=True, size=100)
    assert os.listdir("/dev/shm") == before


def test_memory_is_reserved_at_creation() -> None:
    with block(1 << 20) as one:
        assert Path(f"/dev/shm/{one.name}").stat().st_blocks * 512 >= 1 << 20


def test_shared_memory_is_an_argument_of_a_process(context: Any) -> None:
    with block() as one:
        process = context.Process(target=jobs.put, args=(_Writer(one), 3, 7))
        process.start()
        process.join()
        assert (process.exitcode, one.buf[3]) == (0, 7)


class _Writer:
    """A block that is written to by index."""

    def __init__(self, memory: SharedMemory) -> None:
        self.memory = memory

    def __setitem__(self, index: int, value: int) -> None:
        self.memory.buf[index] = value
