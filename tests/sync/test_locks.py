"""Locks: as in the standard library, wherever they are sent."""

from __future__ import annotations

import functools
import gc
import math
import os
import resource
import signal
import threading
import time
from ast import literal_eval
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from garrison.memory import SharedBlock
from garrison.sync import BoundedSemaphore, Condition, Lock, RLock, Semaphore
from sync.forked import Forked
from waiting import wait_until

HUGE = 10**300
KINDS = pytest.mark.parametrize("kind", [Lock, RLock])


def try_it(lock: Lock | RLock) -> bool:
    got = lock.acquire(timeout=0)
    if got:
        lock.release()
    return got


def is_held(lock: Lock | RLock) -> bool:
    """As another process finds it."""
    with Forked(try_it, lock) as child:
        return child.answer() == "False"


def has_waiter(lock: Lock | RLock) -> bool:
    """Whether somebody has announced that it sleeps."""
    return bool(memoryview(lock._location[0])[3] & 0x80)


@KINDS
def test_lock_is_acquired_and_released(kind: type[Lock | RLock]) -> None:
    lock = kind()
    assert not lock.locked()
    assert lock.acquire() is True
    assert lock.locked()
    assert is_held(lock)
    lock.release()
    assert not is_held(lock)
    with lock as got:
        assert got is True
        assert is_held(lock)
    assert not lock.locked()


@pytest.mark.parametrize(
    "arguments",
    [(False,), (0,), (None,), (True, 0), (True, -1), (True, -math.inf), (1, 0.001), (False, HUGE)],
)
def test_nonblocking_acquire_of_a_held_lock_fails(arguments: Any) -> None:
    lock = Lock()
    with lock:
        assert lock.acquire(*arguments) is False
    assert not lock.locked()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"block": True},
        {"timeout": None},
        {"timeout": math.inf},
        {"timeout": HUGE},
        {"block": 5},
    ],
)
def test_acquire_with_a_timeout_waits(options: Any) -> None:
    lock = Lock()
    lock.acquire()
    with Forked(lambda: lock.acquire(**options)) as child:
        wait_until(lambda: has_waiter(lock))
        assert not child.is_over()
        lock.release()
        assert child.answer() == "True"


def test_a_wait_with_a_timeout_takes_as_long() -> None:
    lock = Lock()
    with lock:
        start = time.monotonic()
        assert not lock.acquire(timeout=0.25)
        assert time.monotonic() - start >= 0.25


@pytest.mark.parametrize(
    ("timeout", "error"), [(math.nan, ValueError), ("1", TypeError), (10**400, OverflowError)]
)
def test_invalid_timeouts_are_refused(timeout: Any, error: type[Exception]) -> None:
    for lock in (Lock(), Semaphore(), BoundedSemaphore()):
        with lock, pytest.raises(error):
            lock.acquire(timeout=timeout)
        with pytest.raises(error):
            lock.acquire(timeout=timeout)
        assert not lock.locked()


def test_unheld_lock_cannot_be_released() -> None:
    lock, recursive = Lock(), RLock()
    with pytest.raises(ValueError, match="released too many times"):
        lock.release()
    with pytest.raises(AssertionError, match="not owned"):
        recursive.release()
    with recursive:
        pass
    with pytest.raises(AssertionError, match="not owned"):
        recursive.release()


@pytest.mark.parametrize("mode", ["Warn", "", None, 3])
def test_an_unknown_mode_is_named(mode: Any) -> None:
    with pytest.raises(ValueError, match=repr(mode)):
        Lock(on_abandon=mode)


def test_a_lock_may_be_released_by_any_process_an_rlock_by_its_owner() -> None:
    lock, recursive = Lock(), RLock()
    with Forked(lock.acquire) as child:
        assert child.answer() == "True"
    lock.release()

    def release() -> str:
        try:
            recursive.release()
        except AssertionError:
            return "refused"
        return "released"

    with recursive:
        with Forked(release) as child:
            assert child.answer() == "'refused'"
        refused: list[str] = []
        thread = threading.Thread(target=lambda: refused.append(release()))
        thread.start()
        thread.join()
        assert refused == ["refused"]


def test_rlock_counts_recursion() -> None:
    lock = RLock()
    for _ in range(5):
        assert lock.acquire()
    assert lock.recover()
    assert lock._semlock._count() == 6
    for _ in range(5):
        lock.release()
    assert is_held(lock)
    lock.release()
    assert not is_held(lock)


def test_another_thread_waits_for_the_lock() -> None:
    for kind in (Lock, RLock):
        lock: Lock | RLock = kind()
        order: list[str] = []
        lock.acquire()

        def take(lock: Lock | RLock = lock, order: list[str] = order) -> None:
            with lock:
                order.append("taken")

        thread = threading.Thread(target=take)
        thread.start()
        wait_until(functools.partial(has_waiter, lock))
        order.append("released")
        lock.release()
        thread.join()
        assert order == ["released", "taken"]


def test_processes_and_threads_exclude_each_other() -> None:
    lock, turns = Lock(), 400
    shared = memoryview(SharedBlock(8)).cast("q")

    def count() -> None:
        def run() -> None:
            for _ in range(turns):
                with lock:
                    seen = shared[0]
                    if not seen % 7:
                        os.sched_yield()
                    shared[0] = seen + 1

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with Forked(count) as one, Forked(count) as two:
        count()
        assert [one.answer(), two.answer()] == ["None", "None"]
    assert shared[0] == 3 * 2 * turns


@pytest.mark.parametrize(
    ("kind", "free", "here", "elsewhere"),
    [
        (Lock, "<Lock(owner=None)>", "<Lock(owner={})>", "<Lock(owner={})>"),
        (RLock, "<RLock(None, 0)>", "<RLock({}, 1)>", "<RLock({}, nonzero)>"),
    ],
)
def test_repr_is_that_of_the_standard_lock(
    kind: type[Lock | RLock], free: str, here: str, elsewhere: str
) -> None:
    lock = kind()
    assert repr(lock) == free
    with lock, ThreadPoolExecutor(1) as threads:
        assert repr(lock) == here.format("MainProcess")
        assert threads.submit(repr, lock).result() == elsewhere.format("SomeOtherThread")
        with Forked(lambda: repr(lock)) as child:
            assert elsewhere.format("SomeOtherProcess") in child.answer()
    assert repr(lock) == free


def test_forked_child_does_not_hold_its_parents_locks() -> None:
    lock, recursive = Lock(), RLock()

    def look() -> tuple[bool, int]:
        return recursive._semlock._is_mine(), recursive._semlock._count()

    with lock, recursive, recursive:
        with Forked(look) as child:
            assert child.answer() == "(False, 0)"
        with Forked(lambda: try_it(lock) or try_it(recursive)) as child:
            assert child.answer() == "False"
        with Forked(lambda: os._exit(0)) as child:
            child.join()
        assert is_held(lock)
        assert is_held(recursive)
    assert not is_held(lock)
    assert not is_held(recursive)


def test_grandchild_is_an_owner_of_its_own() -> None:
    lock = RLock()

    def descend(depth: int) -> list[str]:
        with lock:
            found = [str(lock._semlock.holder and lock._semlock.holder[0] == os.getpid())]
        if depth:
            with Forked(descend, depth - 1) as child:
                found += literal_eval(child.answer())
        return found

    assert descend(3) == ["True"] * 4


def test_fork_while_another_thread_holds_or_waits() -> None:
    held, wanted, end = Lock(), Lock(), threading.Event()
    wanted.acquire()

    def hold() -> None:
        with held:
            end.wait()

    threads = [threading.Thread(target=hold), threading.Thread(target=wanted.acquire)]
    for thread in threads:
        thread.start()
    wait_until(lambda: held.locked() and has_waiter(wanted))

    def use() -> list[bool]:
        new = Lock()
        with new:
            return [held.acquire(timeout=0.01), wanted.acquire(timeout=0.01), new.locked()]

    with Forked(use) as child:
        assert child.answer() == "[False, False, True]"
    end.set()
    wanted.release()
    for thread in threads:
        thread.join()
    assert not is_held(held)
    assert is_held(wanted)


def test_fork_while_another_thread_allocates() -> None:
    end = threading.Event()

    def allocate() -> None:
        while not end.is_set():
            SharedBlock(2 << 20)

    thread = threading.Thread(target=allocate)
    thread.start()
    try:
        for _ in range(150):
            with Forked(lambda: Lock().acquire() and bool(SharedBlock(2 << 20))) as child:
                assert child.answer() == "True"
    finally:
        end.set()
        thread.join()


@KINDS
def test_a_signal_handler_runs_while_its_process_waits(kind: type[Lock | RLock]) -> None:
    lock, seen = kind(), Lock()
    lock.acquire()
    seen.acquire()

    def wait() -> bool:
        signal.signal(signal.SIGUSR1, lambda *_: seen.release())
        return lock.acquire()

    with Forked(wait) as child:
        wait_until(lambda: has_waiter(lock))
        os.kill(child.pid, signal.SIGUSR1)
        assert seen.acquire()
        assert not child.is_over()
        lock.release()
        assert child.answer() == "True"


def test_a_signal_handler_may_use_the_lock_that_is_waited_for() -> None:
    lock = Lock()
    lock.acquire()

    def wait() -> list[bool]:
        inner = []

        def handler(_number: int, _frame: FrameType | None) -> None:
            inner.append(lock.acquire(timeout=0.01))
            lock.release()
            inner.append(lock.acquire())
            lock.release()

        signal.signal(signal.SIGUSR1, handler)
        return [*inner, lock.acquire(), *inner]

    with Forked(wait) as child:
        wait_until(lambda: has_waiter(lock))
        os.kill(child.pid, signal.SIGUSR1)
        assert child.answer() == "[True, False, True]"


def test_a_signal_that_another_thread_has_received_is_handled_while_waiting() -> None:
    lock, seen = Lock(), Lock()
    lock.acquire()
    seen.acquire()

    def wait() -> bool:
        signal.signal(signal.SIGUSR1, lambda *_: seen.release())
        thread = threading.Thread(target=signal.pause, daemon=True)
        thread.start()
        # Nothing interrupts the main thread, and only there handlers run.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        return lock.acquire()

    with Forked(wait) as child:
        wait_until(lambda: has_waiter(lock))
        os.kill(child.pid, signal.SIGUSR1)
        assert seen.acquire()
        lock.release()
        assert child.answer() == "True"


@KINDS
def test_an_interrupted_wait_leaves_the_lock_to_others(kind: type[Lock | RLock]) -> None:
    lock = kind()
    lock.acquire()

    def wait() -> str:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            lock.acquire()
        except KeyboardInterrupt:
            return f"interrupted, {lock._semlock._is_mine()}"
        return "taken"

    with Forked(wait) as interrupted, Forked(lock.acquire) as other:
        wait_until(lambda: has_waiter(lock))
        wait_until(lambda: _sleeps(interrupted.pid))
        os.kill(interrupted.pid, signal.SIGINT)
        assert interrupted.answer() == "'interrupted, False'"
        assert is_held(lock)
        lock.release()
        assert other.answer() == "True"


def _sleeps(pid: int) -> bool:
    return "futex" in Path(f"/proc/{pid}/wchan").read_text(encoding="ascii")


def test_locks_are_made_and_dropped_with_few_descriptors() -> None:
    def use() -> tuple[int, int]:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        before = _occupied()
        for _ in range(5000):
            with Lock(), RLock(), Condition():
                pass
        gc.collect()
        after = _occupied()
        return after[0] - before[0], after[1] - before[1]

    Lock().acquire()
    with Forked(use) as child:
        descriptors, mappings = literal_eval(child.answer())
    # The chunk that is being filled takes the place of its predecessor.
    assert descriptors <= 2
    assert mappings <= 1


def _occupied() -> tuple[int, int]:
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    return len(os.listdir("/proc/self/fd")), maps.count("/memfd:garrison")


def test_lock_without_a_free_descriptor_is_an_error() -> None:
    lock = Lock()

    def use() -> list[str]:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        found = []
        for limit in (3, hard):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                found.append(str(lock.acquire()))
            except OSError as error:
                found.append(str(error))
        return found

    with Forked(use) as child:
        failure, success = literal_eval(child.answer())
    assert "Too many open files" in failure
    assert success == "True"


# --- An offer -------------------------------------------------------------------------------------


@pytest.fixture
def offered() -> Lock:
    """A lock on offer to a waiter that was killed."""
    lock = Lock()
    memoryview(lock._location[0])[3] = 0x80
    return lock


def test_a_lock_on_offer_is_not_held(offered: Lock) -> None:
    assert not offered.locked()
    with pytest.raises(ValueError, match="released"):
        offered.release()


@pytest.mark.parametrize("options", [{"block": False}, {"timeout": 60}, {}])
def test_an_offer_that_nobody_accepts_keeps_nobody(offered: Lock, options: Any) -> None:
    assert offered.acquire(**options)
    assert offered.locked()
    offered.release()
    with offered:
        pass
