"""The suite's own guards: a leak of each kind is seen, and a test that hangs is ended."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import leaves_nothing
from garrison.memory import SharedBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


@contextlib.contextmanager
def a_descriptor() -> Iterator[None]:
    fd = os.dup(0)
    yield
    os.close(fd)


@contextlib.contextmanager
def a_thread() -> Iterator[None]:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield
    end.set()
    thread.join()


@contextlib.contextmanager
def a_mapping() -> Iterator[None]:
    fd = os.memfd_create("leak")
    os.ftruncate(fd, mmap.PAGESIZE)
    mapping = mmap.mmap(fd, mmap.PAGESIZE)
    os.close(fd)
    yield
    mapping.close()


@contextlib.contextmanager
def a_process() -> Iterator[None]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        yield


@contextlib.contextmanager
def an_orphan() -> Iterator[None]:
    # The shell goes, and what stays has a session of its own: no descendant of ours any more.
    command = ["sh", "-c", "setsid sleep 60 >/dev/null & echo $!"]
    pid = int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    yield
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("leak", "kind"),
    [
        (a_descriptor, "descriptor"),
        (a_thread, "thread"),
        (a_mapping, "memfd mapping"),
        (a_process, "process"),
        (an_orphan, "process"),
    ],
)
def test_leak_is_reported(
    leak: Callable[[], contextlib.AbstractContextManager[None]], kind: str
) -> None:
    complaint = pytest.raises(pytest.fail.Exception, match=f"(?s)left behind:.*\n  {kind}")
    with contextlib.ExitStack() as until_the_end, complaint, leaves_nothing(seconds=0):
        until_the_end.enter_context(leak())


def test_object_from_before_is_no_leak_when_other_objects_have_filled_its_memory() -> None:
    """It is in memory that is never counted while the process fills it: 64 KiB, then others."""
    from_before = SharedBlock(64)
    with leaves_nothing(seconds=0):
        for _ in range(2 * 65536 // 4096):
            SharedBlock(4096)
    assert len(from_before) == 64


HANGING = """
import os, signal, threading, pytest

@pytest.mark.watchdog(0.5)
def test_that_hangs():
    if os.fork() == 0:
        signal.pause()
    threading.Event().wait()

def test_after_it():
    pass
"""


def test_a_test_that_hangs_is_ended(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    options = "-p conftest -p no:cacheprovider -c /dev/null --rootdir . test_hanging.py"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed" in run.stdout
    assert "HungError" in run.stdout
    assert "in test_that_hangs" in run.stderr.partition("WATCHDOG: process")[0]
    assert "in test_that_hangs" in run.stderr.partition("WATCHDOG: process")[2]


FAULT = "signal 11, code 1, at 0x1; in native code:"
SENT = "signal 11, sent by process "


@pytest.mark.parametrize(
    ("crash", "cause"),
    [("ctypes.string_at(1)", FAULT), ("os.kill(os.getpid(), signal.SIGSEGV)", SENT)],
)
def test_a_fault_is_traced_in_native_code_and_in_python(crash: str, cause: str) -> None:
    program = f"""
import ctypes, faulthandler, os, signal
from garrison import _core
faulthandler.enable()
_core.trace_faults(2)
{crash}
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    native, _, python = run.stderr.partition("Fatal Python error: Segmentation fault")
    assert cause in native
    assert "libc.so" in native
    assert "<module>" in python
    assert run.returncode == -signal.SIGSEGV


def test_the_locks_of_modules_are_free_in_a_forked_child() -> None:
    """Another thread may have one at the fork, and is not there to give it back."""
    lock = re.compile(
        r"^\w+(?:: \w+)? = (?:threading\.\w*(?:Lock|Semaphore)|Monitor)\(", re.MULTILINE
    )
    sources = sorted((HERE.parent / "src").rglob("*.py"))
    locked = [path for path in sources if lock.search(path.read_text("utf-8"))]
    assert len(locked) >= 7
    again = "os.register_at_fork(after_in_child="
    assert [path.name for path in locked if again not in path.read_text("utf-8")] == []


def test_ctrl_c_finds_no_lock_that_is_taken_in_python() -> None:
    """It would stay taken, and whatever waits for it later would wait for ever."""
    taken = re.compile(r"threading\.(?:Condition|Event|Semaphore|Barrier)\(")
    sources = sorted((HERE.parent / "src" / "garrison" / "pool").glob("*.py"))
    users = [path.name for path in sources if taken.search(path.read_text("utf-8"))]
    assert users == ["_monitor.py"]


def test_the_core_waits_for_no_other_thread_to_fill_a_static() -> None:
    """A child that is forked meanwhile would wait for ever; PyO3's own are filled with the GIL."""
    once = re.compile(r"static \w+: (?:std::sync::)?(?:OnceLock|LazyLock)\b")
    sources = sorted((HERE.parent / "native" / "src").rglob("*.rs"))
    assert sources
    assert [path.name for path in sources if once.search(path.read_text("utf-8"))] == []


PYTHON_FACE = HERE.parent / "native" / "src" / "python"
SOURCE = Path(__file__).parent.parent / "src" / "garrison"

# What of the Python face is more than converting arguments and results: (writes to atomics, lines
# with `unsafe`). Calls of CPython's API are unsafe by nature; all else here is to become less.
MORE_THAN_CONVERTING = {
    "block.rs": (0, 8),  # buffers of the C API
    "c_number.rs": (0, 3),  # numbers of the C API
    "descriptor.rs": (0, 3),
    "encoded_items.rs": (1, 0),  # the size of cells, which another thread may change
    "finalizing.rs": (1, 7),  # the GIL while the interpreter goes away
    "host.rs": (0, 1),  # the GIL excludes other threads
    "launch.rs": (0, 2),  # forks
    "lock_fast_calls.rs": (0, 14),  # C functions of our own
    "mod.rs": (0, 1),
    "plain_pickle.rs": (0, 2),  # the collector paused
    "plain_pickle/output.rs": (0, 5),  # a bytes object that grows
    "plain_pickle/reader.rs": (0, 9),  # objects are made
    "plain_pickle/records.rs": (0, 7),  # fields of types
    "plain_pickle/writer.rs": (0, 25),  # objects by their exact types
    "process.rs": (0, 3),
    "queue_item.rs": (0, 5),  # objects by their exact types
    "reducer.rs": (1, 0),  # its own cache
    "running_tasks.rs": (2, 0),  # threads that wait
    "shared_block.rs": (0, 3),  # buffers of the C API
    "store.rs": (2, 0),
    "store/decode.rs": (0, 2),
    "store/encode.rs": (0, 3),
    "store/engine.rs": (0, 1),
    "synchronized.rs": (0, 8),  # buffers of the C API
    "synchronized_array.rs": (1, 7),  # buffers of the C API; the iterator's own counter
    "synchronized_value.rs": (0, 3),  # buffers of the C API
}


def test_the_python_face_of_the_core_only_converts() -> None:
    """No atomic write and no `unsafe` but these; a file that has fewer now is written down so."""
    write = re.compile(r"\.(?:store|swap|compare_exchange\w*|fetch_\w+)\(")
    found = {}
    for path in sorted(PYTHON_FACE.rglob("*.rs")):
        lines = path.read_text("utf-8").splitlines()
        code = [line for line in lines if not line.lstrip().startswith("//")]
        writes = sum(bool(write.search(line)) for line in code)
        unsafe = sum(bool(re.search(r"\bunsafe\b", line)) for line in code)
        if writes or unsafe:
            found[path.relative_to(PYTHON_FACE).as_posix()] = (writes, unsafe)
    assert found == MORE_THAN_CONVERTING


def test_functions_of_the_core_have_at_most_60_lines() -> None:
    begin = re.compile(r"( *)(?:pub(?:\(\w+\))? )?(?:unsafe )?(?:extern \"C\" )?fn (\w+)")
    too_long = []
    for path in sorted(PYTHON_FACE.parent.rglob("*.rs")):
        lines = path.read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            if (found := begin.match(line)) and not line.endswith((";", "}")):
                end = lines.index(f"{found[1]}}}", number)
                if end - number >= 60:
                    too_long.append(f"{path.name}::{found[2]} has {end - number + 1} lines")
    assert too_long == []


def test_each_reader_of_pickles_says_who_has_written_them() -> None:
    reads = re.compile(r"pickle\.loads?\b|Unpickler\(io")
    silent, told = [], 0
    for path in sorted(SOURCE.rglob("*.py")):
        lines = path.read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            if reads.search(line):
                told += 1
                if "written by" not in lines[number - 1] + line:
                    silent.append(f"{path.relative_to(SOURCE)}:{number + 1}")
    assert silent == []
    assert told > 10
