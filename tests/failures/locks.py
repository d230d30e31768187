"""Locks and what is made of them: a process is killed with them, or while it waits for them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from waiting import becomes_true

from .registry import row
from .subject import PATIENCE, Hangs, Subject, check, same
from .system import all_gone, descriptors, state_of

WAITING = 0.3
"""Seconds after which a process that has said that it is about to wait does so."""


def _child(subject: Subject, function: Callable[..., None], *args: Any) -> Any:
    process = subject.module.get_context(subject.method).Process(target=function, args=args)
    process.start()
    return process


def _die(process: Any) -> None:
    """Kill a child that is asleep somewhere, and wait until it is gone."""
    os.kill(process.pid, signal.SIGKILL)
    same(all_gone([process.pid], PATIENCE), [])
    process.join()


def _asleep(process: Any) -> None:
    check(becomes_true(lambda: state_of(process.pid) == "S", PATIENCE), "the child does not wait")


def _in_time(function: Callable[..., Any], *args: Any) -> Any:
    """What a call gives; `Hangs` if it does not come back."""
    answer: list[Any] = []
    thread = threading.Thread(target=lambda: answer.append(function(*args)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not answer:
        message = "the call has not come back"
        raise Hangs(message)
    return answer[0]


def hold(lock: Any, ready: Any) -> None:
    """Take a lock, say so, and keep it."""
    lock.acquire()
    ready.send(1)
    while True:
        signal.pause()


def _held_by_a_child(subject: Subject, lock: Any) -> Any:
    context = subject.module.get_context(subject.method)
    receive, send = context.Pipe(duplex=False)
    process = _child(subject, hold, lock, send)
    check(receive.poll(PATIENCE), "the child has not got the lock")
    return process


KINDS = ("Lock", "RLock", "BoundedSemaphore")


@row("the holder of a lock is killed: the next one", source="matrix", cases=KINDS)
def lock_holder_killed(subject: Subject, kind: str) -> None:
    lock = getattr(subject.module.get_context(subject.method), kind)()
    _die(_held_by_a_child(subject, lock))
    _got(lock.acquire(True, PATIENCE))


def _got(answer: object) -> None:
    if not answer:
        message = "the lock is not to be had"
        raise Hangs(message)


@row("the holder is stopped, not dead: it keeps its lock", source="#51", cases=KINDS, fine=["*"])
def lock_holder_stopped(subject: Subject, kind: str) -> None:
    lock = getattr(subject.module.get_context(subject.method), kind)()
    process = _held_by_a_child(subject, lock)
    os.kill(process.pid, signal.SIGSTOP)
    becomes_true(lambda: state_of(process.pid) == "T", PATIENCE)
    check(not lock.acquire(True, WAITING), "a stopped process has lost its lock")
    _die(process)


@row("killed with a lock, and memory that the kernel takes long to free", source="#51")
def lock_holder_killed_with_memory(subject: Subject) -> None:
    lock = subject.module.get_context(subject.method).Lock()
    process = _child(subject, hold_with_memory, lock)
    becomes_true(lambda: not _free(lock), PATIENCE)
    _die(process)
    _got(lock.acquire(True, PATIENCE))


def hold_with_memory(lock: Any) -> None:
    """Take a lock with much private memory, and keep it."""
    memory = bytearray(b"\1") * (256 << 20)
    lock.acquire()
    while memory:
        signal.pause()


def _free(lock: Any) -> bool:
    got = bool(lock.acquire(False))
    if got:
        lock.release()
    return got


def wait_for_condition(condition: Any, ready: Any) -> None:
    """Say so, and wait to be notified."""
    with condition:
        ready.send(1)
        condition.wait()


def _waiter(subject: Subject, condition: Any) -> Any:
    context = subject.module.get_context(subject.method)
    receive, send = context.Pipe(duplex=False)
    process = _child(subject, wait_for_condition, condition, send)
    check(receive.poll(PATIENCE), "the child does not wait")
    _asleep(process)
    return process


@row(
    "a waiter of a condition is killed: notify",
    source="#39",
    cases=["notify", "notify_all", "the other waiter"],
    fine=["the other waiter-*"],
)
def condition_waiter_killed(subject: Subject, case: str) -> None:
    condition = subject.module.get_context(subject.method).Condition()
    victim = _waiter(subject, condition)
    other = _waiter(subject, condition) if case == "the other waiter" else None
    _die(victim)

    def notify() -> bool:
        with condition:
            (condition.notify_all if case == "notify_all" else condition.notify)()
        return True

    _in_time(notify)
    if other is not None:
        other.join(PATIENCE)
        if other.exitcode is None:
            _die(other)
            message = "the notification went to the dead"
            raise Hangs(message)
        return
    _in_time(notify)


def wait_at_barrier(barrier: Any) -> None:
    """Wait for the others."""
    barrier.wait()


@row("a process is killed while it waits at a barrier: the others", source="#40")
def barrier_waiter_killed(subject: Subject) -> None:
    barrier = subject.module.get_context(subject.method).Barrier(3)
    victim = _child(subject, wait_at_barrier, barrier)
    becomes_true(lambda: barrier.n_waiting == 1, PATIENCE)
    _asleep(victim)
    _die(victim)

    def pass_it() -> str:
        try:
            barrier.wait()
        except threading.BrokenBarrierError:
            return "broken"
        return "passed"

    same(_in_time(pass_it), "broken")


@contextmanager
def _handling_alarms(handler: Callable[[], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@row("Event.set() in a signal handler that interrupts a wait for it", source="#22")
def event_set_in_handler(subject: Subject) -> None:
    event = subject.module.get_context(subject.method).Event()
    with _handling_alarms(event.set):
        for _ in range(200):
            event.clear()
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            if not event.wait(PATIENCE):
                message = "the wait does not see that the event was set"
                raise Hangs(message)


@row("is_set() while a signal handler sets the event", source="#22")
def event_looked_at_in_handler(subject: Subject) -> None:
    event = subject.module.get_context(subject.method).Event()
    seen: list[bool] = []

    def handler() -> None:
        event.set()
        seen.append(True)

    with _handling_alarms(handler):
        for count in range(2000):
            signal.setitimer(signal.ITIMER_REAL, 0.000001 * (1 + count % 200))
            while len(seen) <= count:
                event.is_set()
            event.clear()


@row("1,000 locks made and dropped: descriptors", source="#32", cases=KINDS, fine=["*"])
def locks_leave_no_descriptor(subject: Subject, kind: str) -> None:
    make = getattr(subject.module.get_context(subject.method), kind)
    with make():
        before = descriptors()
    for _ in range(1000):
        with make():
            pass
    same(descriptors() - before, 0)


def make_and_send(pipe: Any, kind: str, module: str, method: str) -> None:
    """Make objects and be killed at some moment of it."""
    import importlib

    context = importlib.import_module(module).get_context(method)
    while True:
        made = [getattr(context, kind)() for _ in range(20)]
        pipe.send(len(made))


@row(
    "killed while it makes locks: nothing is left behind",
    source="#54",
    cases=KINDS,
    limit=20.0,
    only_garrison="it leaves a semaphore in /dev/shm, or does not: a matter of luck",
)
def killed_while_making(subject: Subject, kind: str) -> None:
    context = subject.module.get_context(subject.method)
    lock = getattr(context, kind)()
    for _ in range(3 if subject.method == "spawn" else 6):
        receive, send = context.Pipe(duplex=False)
        process = _child(subject, make_and_send, send, kind, subject.name, subject.method)
        check(receive.poll(PATIENCE), "the child makes no locks")
        _die(process)
        receive.close()
        send.close()
    check(lock.acquire(True, PATIENCE), "a lock of ours is lost with it")
    lock.release()
