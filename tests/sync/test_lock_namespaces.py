"""Process ids that mean another process elsewhere, or later, do not confuse a lock.

Clocks are the same matter. All waits measure the monotonic clock, which no setting of the time
changes; where a time namespace shifts it between two processes, each measures with its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from garrison.sync import Lock
from sync.forked import Forked
from waiting import wait_until

NEWTIME, NEWNS, NEWUSER, NEWPID = 0x80, 0x20000, 0x10000000, 0x20000000
PRIVATE = 0x4000 | 1 << 18  # MS_REC | MS_PRIVATE
DAY = 86_400
TICK = 1 / os.sysconf("SC_CLK_TCK")


def _libc(name: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _enter(flags: int) -> None:
    """Have the children of this process be in new namespaces."""
    _libc("unshare", flags | (0 if os.geteuid() == 0 else NEWUSER))


def in_namespace(flags: int, function: Callable[..., Any], *args: Any) -> Any:
    """Run a function in a child of a child, which is in new namespaces; what it returned."""

    def enter() -> str:
        try:
            _enter(flags)
            if flags & NEWTIME:
                shift = f"monotonic {DAY} 0\nboottime {DAY} 0\n"
                Path("/proc/self/timens_offsets").write_text(shift, encoding="ascii")
        except OSError as error:
            return f"not permitted: {error}"
        with Forked(function, *args) as child:
            return child.answer()

    return Forked(enter)


def answer(child: Forked) -> str:
    text = child.answer()
    if "not permitted: " in text:
        pytest.skip(f"new namespaces are {text}")
    return text.strip("'\"")


def hold(lock: Lock) -> None:
    lock.acquire()
    signal.pause()


def wait(lock: Lock) -> tuple[bool, bool]:
    start = time.monotonic()
    got = lock.acquire(timeout=0.35)
    return got, got or time.monotonic() - start >= 0.35


def test_a_holder_in_another_pid_namespace_keeps_its_lock_until_it_dies() -> None:
    lock = Lock(on_abandon="ignore")
    with in_namespace(NEWPID, hold, lock) as outer:
        wait_until(lambda: lock.locked() or outer.is_over())
        if outer.is_over():
            answer(outer)
        assert (lock._semlock.holder or [0])[0] == 1
        assert not lock.acquire(timeout=0.35)
        assert not lock.acquire(False)
        os.kill(_only_child(outer.pid), signal.SIGKILL)
        assert lock.acquire()
        assert lock.abandoned


def _only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii"))


@pytest.mark.parametrize("flags", [NEWPID, NEWTIME, NEWPID | NEWTIME])
def test_waiter_in_another_namespace_takes_no_lock_of_the_living(flags: int) -> None:
    lock = Lock()
    with lock:
        with in_namespace(flags, wait, lock) as child:
            assert answer(child) == "(False, True)"
        assert (lock._semlock.holder or [0])[0] == os.getpid()
    with in_namespace(flags, wait, lock) as child:
        assert answer(child) == "(True, True)"


def test_two_processes_with_pid_1_exclude_each_other() -> None:
    lock = Lock(on_abandon="ignore")
    with in_namespace(NEWPID, hold, lock) as first:
        wait_until(lambda: lock.locked() or first.is_over())
        with in_namespace(NEWPID, wait, lock) as second:
            assert answer(second) == "(False, True)"
        os.kill(_only_child(first.pid), signal.SIGKILL)
        with in_namespace(NEWPID, wait, lock) as third:
            assert answer(third) == "(True, True)"


def test_reused_pid_does_not_keep_a_dead_holder_alive() -> None:
    lock = Lock(on_abandon="ignore")

    def reuse() -> str:
        try:
            _libc("mount", b"none", b"/", None, PRIVATE, None)
            _libc("mount", b"proc", b"/proc", b"proc", 0, None)
        except OSError as error:
            return f"not permitted: {error}"
        with Forked(lock.acquire) as holder:
            holder.join()
        dead = time.clock_gettime(time.CLOCK_BOOTTIME)
        wait_until(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > dead + 2 * TICK)
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(f"{holder.pid - 1}", encoding="ascii")
        except OSError as error:
            return f"not permitted: {error}"
        with Forked(signal.pause) as impostor:
            assert impostor.pid == holder.pid
            return f"{lock.acquire(timeout=10)}, {lock.abandoned}"

    with in_namespace(NEWPID | NEWNS, reuse) as child:
        assert answer(child).strip("'") == "True, True"
