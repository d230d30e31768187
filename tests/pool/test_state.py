"""The state that an initializer returns, and the finalizer at the orderly end of a worker."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import garrison
from garrison import Failure
from garrison.pool import ThreadPool


class Counter:
    def __init__(self, start: int) -> None:
        self.count = start


def count(counter: Any, step: int = 0) -> Any:
    counter.count += step
    return counter.count


def count_two(counter: Any, first: int, second: int = 0) -> Any:
    return count(counter, first + second)


def last_count(counter: Counter) -> int:
    return counter.count


def fail() -> None:
    raise ValueError("at the end")


def fail_on_zero(counter: Counter, value: int) -> float:
    counter.count += 1
    return 1 / value


POOLS: dict[str, Callable[..., Any]] = {
    "fork": lambda *args, **kwds: garrison.get_context("fork").Pool(*args, **kwds),
    "spawn": lambda *args, **kwds: garrison.get_context("spawn").Pool(*args, **kwds),
    "forkserver": lambda *args, **kwds: garrison.get_context("forkserver").Pool(*args, **kwds),
    "threads": ThreadPool,
    "serial": lambda _, *args, **kwds: garrison.Pool(1, *args, engine="serial", **kwds),
}


@pytest.fixture(params=POOLS)
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return POOLS[request.param]


def test_each_call_gets_the_state_of_its_worker(make: Callable[..., Any]) -> None:
    with make(1, Counter, (100,), pass_state=True) as pool:
        assert pool.map(count, [1] * 4, 2) == [101, 102, 103, 104]
        assert pool.apply(count_two, (1,), {"second": 2}) == 107
        assert pool.starmap(count_two, [(1, 1), (0, 1)]) == [109, 110]
        assert list(pool.imap(count, [1, 1])) == [111, 112]
        assert list(pool.imap(count, [1, 1], 2)) == [113, 114]
        assert pool.map(lambda state, n: state.count + n, [1]) == [115]
        assert pool.options(pass_state=False).map(abs, [-1]) == [1]


def test_state_goes_with_the_other_options(make: Callable[..., Any]) -> None:
    with make(1, Counter, (0,), pass_state=True, on_error="return") as pool:
        one, failed = pool.map(fail_on_zero, [1, 0])
        assert (one, failed.item) == (1.0, "0")
        retrying = pool.options(retries=2, retry_on=ZeroDivisionError)
        (failed,) = retrying.map(fail_on_zero, [0])
        assert failed.attempt == 3
        assert pool.apply(count, (0,)) == 5
        five, failed = pool.starmap(count_two, [(0, 0), ("x", 1)])
        assert (five, failed.index) == (5, 1)


def test_a_replaced_worker_has_a_new_state() -> None:
    with garrison.Pool(1, Counter, (0,), pass_state=True) as pool:
        assert pool.map(count, [1, 1]) == [1, 2]
        with pytest.raises(garrison.WorkerDied):
            pool.apply(lambda _: os.kill(os.getpid(), signal.SIGKILL))
        assert pool.map(count, [1, 1]) == [1, 2]


def test_without_an_initializer_there_is_no_state(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="pass_state: the state is what the initializer returns"):
        make(1, pass_state=True)
    with make(1) as pool, pytest.raises(ValueError, match="pass_state"):
        pool.options(pass_state=True)


def test_values_of_finalizers_are_collected(make: Callable[..., Any]) -> None:
    with make(2, Counter, (0,), pass_state=True, finalizer=last_count) as pool:
        pool.map(count, [1] * 10, 1)
        pool.close()
        pool.join()
        assert sum(pool.finalizer_values) == 10
        assert sum(pool.finalizer_values) == 10
        assert len(pool.finalizer_values) == pool._processes


def test_each_life_of_a_worker_is_finalized(context: Any) -> None:
    with context.Pool(1, maxtasksperchild=1, finalizer=os.getpid) as pool:
        pids = pool.map(lambda _: os.getpid(), range(3), 1)
        pool.close()
        pool.join()
        assert pool.finalizer_values[:3] == pids


def test_a_finalizer_that_fails_is_reported(make: Callable[..., Any], capfd: Any) -> None:
    with make(1, finalizer=fail) as pool:
        pool.close()
        pool.join()
        (failed,) = pool.finalizer_values
    assert isinstance(failed, Failure)
    assert failed.error.args == ("at the end",)
    assert "ValueError: at the end" in capfd.readouterr().err


def test_a_value_that_cannot_be_sent_is_a_failure(context: Any) -> None:
    with context.Pool(1, finalizer=threading.Lock) as pool:
        pool.close()
        pool.join()
        (failed,) = pool.finalizer_values
    assert "lock" in str(failed.error)


def test_a_terminated_pool_has_no_values() -> None:
    with garrison.Pool(2, finalizer=os.getpid) as pool:
        pool.map(abs, range(4))
    assert pool.finalizer_values == []


def test_a_finalizer_is_an_option_of_a_pool_only() -> None:
    with garrison.Pool(1, finalizer=os.getpid) as pool:
        assert pool.options(retries=1).apply(abs, (-1,)) == 1
        with pytest.raises(ValueError, match="finalizer is an option of a whole pool"):
            pool.options(finalizer=fail)
    with pytest.raises(TypeError, match="finalizer must be callable, not 3"):
        garrison.Pool(1, finalizer=3)  # type: ignore[arg-type]
