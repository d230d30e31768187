"""Locks and queues between processes, awaited."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from queue import Empty, Full
from typing import TYPE_CHECKING, Any

import pytest

import garrison
from garrison import AbandonedLock, aio
from garrison.errors import NotHeld
from waiting import wait_until

from .conftest import until

if TYPE_CHECKING:
    from .conftest import Run


def hold(lock: Any, held: Any, release: Any) -> None:
    lock.acquire()
    held.set()
    release.wait()
    lock.release()


def hold_and_die(lock: Any) -> None:
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def put(queue: Any, items: Any) -> None:
    for item in items:
        queue.put(item)


def take(queue: Any, count: int) -> None:
    for _ in range(count):
        queue.get()


def notify(condition: Any, count: int) -> None:
    with condition:
        condition.notify(count)


def names_of_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


MAKERS: list[Callable[[], Any]] = [aio.Lock, aio.Semaphore, aio.BoundedSemaphore]


@pytest.mark.parametrize("make", MAKERS)
def test_a_contended_lock_is_acquired_when_it_is_released(make: Any) -> None:
    async def main() -> None:
        lock, held, release = make(), garrison.Event(), garrison.Event()
        other = garrison.Process(target=hold, args=(lock._shared, held, release))
        other.start()
        assert await aio.Event(held).wait()
        order: list[int] = []

        async def enter(number: int) -> None:
            async with lock:
                order.append(number)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(enter(number)) for number in range(5)]
        await asyncio.sleep(0)
        # All five have one thread; that of the event goes when it sees that nobody waits.
        await until(lambda: names_of_threads().count("garrison-aio-wait") == 1)
        tasks[2].cancel()
        release.set()
        await asyncio.wait(tasks)
        assert (order, tasks[2].cancelled(), lock.locked()) == ([0, 1, 3, 4], True, False)
        other.join()

    asyncio.run(main())


def test_a_cancelled_waiter_leaves_no_lock_held() -> None:
    async def main() -> None:
        for _ in range(50):
            lock = aio.Lock()
            await lock.acquire()
            waiter = asyncio.create_task(lock.acquire())
            await asyncio.sleep(0)
            lock.release()
            waiter.cancel()
            await asyncio.wait([waiter])
            if waiter.cancelled():
                await lock.acquire()  # it is free now, or in a moment
            lock.release()
            assert not lock.locked()
        with pytest.raises(NotHeld):
            lock.release()

    asyncio.run(main())


def test_a_dead_owners_lock_is_inherited(run: Run) -> None:
    async def main() -> Any:
        lock = aio.Lock(on_abandon="ignore")
        other = garrison.Process(target=hold_and_die, args=(lock.lock,))
        other.start()
        other.join()
        await lock.acquire()
        return lock.abandoned

    assert run(main)


def test_a_dead_owners_permit_is_free_again(run: Run) -> None:
    async def main() -> Any:
        semaphore = aio.BoundedSemaphore(1)
        other = garrison.Process(target=hold_and_die, args=(semaphore._shared,))
        other.start()
        other.join()
        async with semaphore:
            return semaphore.get_value()

    assert run(main) == 0


def test_the_heir_of_a_lock_is_warned() -> None:
    async def main() -> None:
        lock = aio.Lock()
        other = garrison.Process(target=hold_and_die, args=(lock.lock,))
        other.start()
        other.join()
        with pytest.warns(AbandonedLock):
            await lock.acquire()

    asyncio.run(main())


def test_an_event_that_is_cleared_at_once_wakes_all_waiters() -> None:
    async def main() -> None:
        event = aio.Event()
        waiters = [asyncio.create_task(event.wait()) for _ in range(5)]
        await asyncio.sleep(0)
        event.set()
        event.clear()
        assert await asyncio.gather(*waiters) == [True] * 5
        assert not event.is_set()
        event.set()
        assert await event.wait()

    asyncio.run(main())


def test_a_condition_wakes_as_many_as_were_notified() -> None:
    async def main() -> None:
        condition = aio.Condition()
        woken: list[int] = []

        async def wait(number: int) -> None:
            async with condition:
                await condition.wait()
                woken.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(5)]
        await until(lambda: condition._condition._core.waiting == 5)
        other = garrison.Process(target=notify, args=(condition._condition, 2))
        other.start()
        await asyncio.wait(tasks[:2])
        assert woken == [0, 1]
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        async with condition:
            condition.notify()
        await tasks[3]
        async with condition:
            condition.notify_all()
        await tasks[4]
        assert (woken, condition.locked()) == ([0, 1, 3, 4], False)
        async with condition:
            assert await condition.wait_for(lambda: True)
        with pytest.raises(AssertionError):
            await condition.wait()
        other.join()

    asyncio.run(main())


def test_items_arrive_from_another_process(run: Run) -> None:
    async def main() -> Any:
        queue = aio.Queue(2)
        other = garrison.Process(target=put, args=(queue.queue, range(100)))
        other.start()
        found = [await queue.get() for _ in range(100)]
        other.join()
        with pytest.raises(Empty):
            queue.get_nowait()
        return found

    assert run(main) == list(range(100))


def test_put_waits_for_room(run: Run) -> None:
    async def main() -> Any:
        queue = aio.Queue(1)
        queue.put_nowait(0)
        with pytest.raises(Full):
            queue.put_nowait(1)
        other = garrison.Process(target=take, args=(queue.queue, 3))
        other.start()
        for item in (1, b"x" * 2_000_000, 3):
            await queue.put(item)
        other.join()
        return queue.qsize(), await queue.get(), queue.empty(), queue.full()

    assert run(main) == (1, 3, True, False)


def test_a_cancelled_get_takes_no_item() -> None:
    async def main() -> None:
        queue = aio.Queue()
        for number in range(50):
            getters = [asyncio.create_task(queue.get()) for _ in range(3)]
            await asyncio.sleep(0)
            queue.put_nowait(number)
            getters[0].cancel()
            done, waiting = await asyncio.wait(getters[1:], return_when=asyncio.FIRST_COMPLETED)
            assert [task.result() for task in done] == [number]
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            assert queue.empty()

    asyncio.run(main())


@pytest.mark.parametrize("make", [*MAKERS, aio.Event, aio.Condition, aio.Queue])
def test_workers_get_the_same_object(make: Any) -> None:
    async def main() -> None:
        shared = make()
        async with aio.Pool(1) as pool:
            assert await pool.apply(use, (shared,))
        if make is aio.Event:
            assert shared.is_set()
        elif make is aio.Queue:
            assert await shared.get() == "sent"

    asyncio.run(main())


async def use(shared: Any) -> bool:
    if isinstance(shared, aio.Event):
        shared.set()
    elif isinstance(shared, aio.Queue):
        await shared.put("sent")
    else:
        async with shared:
            assert "aio" in repr(shared)
    return True


@pytest.mark.parametrize("kind", [aio.Lock, aio.Semaphore, aio.BoundedSemaphore])
def test_a_loop_that_is_closed_before_it_has_a_lock_leaves_it_free(kind: Any) -> None:
    lock = kind()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(lock.acquire())
    waiter: Any = loop.create_task(lock.acquire())
    loop.run_until_complete(asyncio.sleep(0))
    waiter._log_destroy_pending = False
    lock.release()
    while not lock.locked():
        time.sleep(0.001)  # until a thread has it for the waiter
    loop.close()
    assert lock._shared.acquire(True, 60)
    lock.release()


def test_a_lock_of_a_thread_is_refused() -> None:
    kinds: Any = (aio.Lock, aio.Condition)
    for kind in kinds:
        with pytest.raises(TypeError, match="an RLock belongs to a thread"):
            kind(garrison.RLock())
        with pytest.raises(ValueError, match="detect_deadlocks"):
            kind(garrison.Lock(detect_deadlocks=True))


def test_a_notification_is_not_lost_with_a_loop_that_was_closed() -> None:
    condition = aio.Condition()

    async def wait() -> None:
        async with condition:
            await condition.wait()

    async def notify() -> None:
        waiter = asyncio.create_task(wait())
        await until(lambda: condition._condition._core.waiting == 1)
        async with condition:
            condition.notify()
        await waiter

    loop = asyncio.new_event_loop()
    lost: Any = loop.create_task(wait())
    lost._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    assert condition._condition._core.waiting == 1
    loop.close()
    wait_until(lambda: condition._condition._core.waiting == 0)
    asyncio.run(notify())
    del lost
