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
def test_a_leak_is_seen(
    leak: Callable[[], contextlib.AbstractContextManager[None]], kind: str
) -> None:
    complaint = pytest.raises(pytest.fail.Exception, match=f"(?s)left behind:.*\n  {kind}")
    with contextlib.ExitStack() as until_the_end, complaint, leaves_nothing(patience=0):
        until_the_end.enter_context(leak())


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


def test_the_locks_of_modules_are_free_in_a_forked_child() -> None:
    """Another thread may have one at the fork, and is not there to give it back."""
    lock = re.compile(r"^\w+(?:: \w+)? = threading\.(?:R?Lock|Condition|Semaphore)\(", re.MULTILINE)
    sources = sorted((HERE.parent / "src").rglob("*.py"))
    locked = [path for path in sources if lock.search(path.read_text("utf-8"))]
    assert len(locked) >= 7
    again = "os.register_at_fork(after_in_child="
    assert [path.name for path in locked if again not in path.read_text("utf-8")] == []


def test_the_core_waits_for_no_other_thread_to_fill_a_static() -> None:
    """A child that is forked meanwhile would wait for ever; PyO3's own are filled with the GIL."""
    once = re.compile(r"static \w+: (?:std::sync::)?(?:OnceLock|LazyLock)\b")
    sources = sorted((HERE.parent / "native" / "src").rglob("*.rs"))
    assert sources
    assert [path.name for path in sources if once.search(path.read_text("utf-8"))] == []
