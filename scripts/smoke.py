"""A pool and shared objects under each start method: whether this build works on this Python.

Every step prints a line; the whole must end within 20 seconds, or all stacks are dumped. An
emulated or busy machine is given more: ``SMOKE_SECONDS=200``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import multiprocessing
import os
import platform
import signal
import warnings
from typing import Any

import garrison
from garrison.managers import SyncManager

SECONDS = int(os.environ.get("SMOKE_SECONDS", "20"))


def square(x: int) -> int:
    return x * x


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def check_plain(pool: garrison.Pool) -> None:
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    assert list(pool.imap(square, range(50))) == [x * x for x in range(50)]
    assert sorted(pool.imap_unordered(square, range(50))) == [x * x for x in range(50)]


def check_lambda(pool: garrison.Pool) -> None:
    offset = 7
    assert pool.map(lambda x: x + offset, range(10)) == list(range(7, 17))


def check_death(pool: garrison.Pool) -> None:
    before = [pool.apply_async(square, (x,)) for x in range(20)]
    dying = pool.apply_async(die, (1,))
    after = [pool.apply_async(square, (x,)) for x in range(20)]
    dying.wait()
    assert not dying.successful()
    with contextlib.suppress(garrison.WorkerDied):
        dying.get()
    assert [result.get() for result in before + after] == [x * x for x in range(20)] * 2


def check_numpy(pool: garrison.Pool) -> None:
    import numpy as np

    array = np.arange(1_000_000, dtype=np.float64)
    assert pool.apply(np.sum, (array,)) == array.sum()
    assert np.array_equal(pool.apply(np.negative, (array,)), -array)


def take_part(value: Any, array: Any, lock: Any, condition: Any, queue: Any, barrier: Any) -> None:
    barrier.wait()
    for _ in range(100):
        value.add(1)
        with lock:
            array[0] += 1
    with condition:
        queue.put(("waiting", bytes(100_000)))
        condition.wait()
    queue.put("done")
    os.kill(os.getpid(), signal.SIGKILL if lock.acquire() else 0)


def check_sharing(method: str) -> None:
    context = garrison.get_context(method)
    value, array, lock = context.Value("q", 0), context.Array("i", 2), context.Lock()
    condition, queue, barrier = context.Condition(), context.Queue(), context.Barrier(2)
    shared = (value, array, lock, condition, queue, barrier)
    child = context.Process(target=take_part, args=shared)
    child.start()
    barrier.wait()
    assert queue.get() == ("waiting", bytes(100_000))
    with condition:
        condition.notify()
    assert queue.get() == "done"
    assert (value.value, array[:]) == (100, [100, 0])
    child.join()
    with warnings.catch_warnings(record=True) as told, lock:
        assert lock.abandoned
    assert [each.category for each in told] == [garrison.AbandonedLock]
    assert garrison.share([b"frozen"]).get() == [b"frozen"]


def change(stock: Any, log: Any, tally: Any) -> None:
    stock["prices"]["apples"] = 0.5
    log.append(("changed", None))
    tally.add(2)


class Tally:
    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int) -> int:
        self.count += number
        return self.count


class Manager(SyncManager):
    Tally: Any  # registered below


Manager.register("Tally", Tally)


def check_manager(method: str) -> None:
    context = garrison.get_context(method)
    with Manager(("127.0.0.1", 0), b"a key for a smoke test only", ctx=context) as manager:
        stock, log, tally = manager.dict("stock", prices={}), manager.list(), manager.Tally()
        child = context.Process(target=change, args=(stock, log, tally))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert stock == {"prices": {"apples": 0.5}}
        assert log == [("changed", None)]
        assert tally.add(1) == 3
        far = garrison.connect(manager.address, "a key for a smoke test only", direct=False)
        with far.transaction():
            far.dict("stock")["pears"] = 7
        with far.Lock("one"):
            assert stock["pears"] == 7


def smoke(method: str) -> None:
    check_sharing(method)
    check_manager(method)
    with garrison.Pool(2, context=multiprocessing.get_context(method)) as pool:
        check_plain(pool)
        check_lambda(pool)
        check_death(pool)
        if importlib.util.find_spec("numpy"):
            check_numpy(pool)
        pool.close()
        pool.join()
    print(f"  {method}: ok", flush=True)


def main() -> None:
    faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)
    signal.alarm(SECONDS)
    print(f"garrison on {platform.python_implementation()} {platform.python_version()}", flush=True)
    for method in multiprocessing.get_all_start_methods():
        smoke(method)


if __name__ == "__main__":
    main()
