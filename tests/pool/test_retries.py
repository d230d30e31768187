"""`retries`: another attempt after a worker's death, or after an exception that is worth it."""

from __future__ import annotations

import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import Pool, WorkerDied

from . import tasks
from .tasks import Tally


def test_a_task_whose_worker_was_killed_is_tried_again(context: Any, tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with context.Pool(2) as pool:
        assert pool.options(retries=1).apply(tasks.die_at_first, (tally, "x")) == "x"
        assert pool.statistics().retried == 1
    assert tally.total == 2


def die_always(tally: Tally) -> None:
    tally.add()
    tasks.die()


@pytest.mark.parametrize("retries", [0, 2])
def test_after_the_last_attempt_the_task_is_lost(tmp_path: Path, retries: int) -> None:
    tally = Tally(tmp_path)
    with Pool(2) as pool:
        with pytest.raises(WorkerDied):
            pool.options(retries=retries).apply(die_always, (tally,))
        assert pool.apply(tasks.square, (3,)) == 9
    assert tally.total == retries + 1


@pytest.mark.parametrize("chunksize", [1, 3, 6])
def test_each_item_of_a_map_has_its_own_retries(tmp_path: Path, chunksize: int) -> None:
    items = [(Tally(tmp_path), n) for n in range(6)]
    with Pool(2, retries=1) as pool:
        assert pool.starmap(tasks.die_at_first, items, chunksize) == list(range(6))


@pytest.mark.parametrize("unordered", [False, True])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_each_item_of_an_imap_has_its_own_retries(
    tmp_path: Path, chunksize: int, unordered: bool
) -> None:
    tally = Tally(tmp_path)
    with Pool(2, retries=1) as pool:
        method = pool.imap_unordered if unordered else pool.imap
        found = list(method(lambda n: tasks.die_at_first(tally, n), range(6), chunksize))
    assert sorted(found) == list(range(6))


def die_at_three(tally: Tally, n: int) -> int:
    tally.add(str(n))
    if n == 3:
        tasks.die()
    return n


@pytest.mark.parametrize("chunksize", [1, 4])
def test_only_the_item_that_kills_is_lost_from_an_imap(tmp_path: Path, chunksize: int) -> None:
    tally = Tally(tmp_path)
    with Pool(2, retries=1) as pool:
        results = pool.imap(lambda n: die_at_three(tally, n), range(8), chunksize)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(WorkerDied):
            next(results)
        assert list(results) == [4, 5, 6, 7]
    assert tally.marks().count("3") == 2


def test_without_retries_no_item_of_an_imap_runs_twice(tmp_path: Path) -> None:
    # Quick items share a cell, which nobody should be able to tell.
    tally = Tally(tmp_path)
    with Pool(1) as pool:
        results = pool.imap(lambda n: die_at_three(tally, n % 200), range(400))
        found: list[int] = []
        while len(found) < 400:
            try:
                found.append(next(results))
            except WorkerDied:
                found.append(-1)
    assert found == [-1 if n % 200 == 3 else n % 200 for n in range(400)]
    assert tally.total == 400


@pytest.mark.parametrize("error", [ConnectionError(1), ConnectionResetError(2), TimeoutError(3)])
def test_chosen_exceptions_are_retried(tmp_path: Path, error: Exception) -> None:
    retry_on = (ConnectionError, TimeoutError)
    with Pool(1, retries=2, retry_on=retry_on) as pool:
        assert pool.apply(tasks.raise_at_first, (Tally(tmp_path), 2, error)) == 3


def test_after_the_last_attempt_the_exception_arrives(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with Pool(1, retries=2, retry_on=ConnectionError) as pool:
        with pytest.raises(ConnectionError) as caught:
            pool.apply(tasks.raise_at_first, (tally, 99, ConnectionError("no luck")))
        assert caught.value.args == ("no luck",)
    assert tally.total == 3


@pytest.mark.parametrize("retry_on", [(), ConnectionError])
def test_other_exceptions_are_not_retried(tmp_path: Path, retry_on: Any) -> None:
    tally = Tally(tmp_path)
    with Pool(1, retries=2, retry_on=retry_on) as pool, pytest.raises(LookupError):
        pool.apply(tasks.raise_at_first, (tally, 99, LookupError()))
    assert tally.total == 1


def raise_twice(tally: Tally, n: int) -> int:
    if tally.add(str(n)) < 3:
        raise ConnectionError
    return n


@pytest.mark.parametrize("chunksize", [1, 3])
def test_each_item_has_its_own_retries_after_exceptions(tmp_path: Path, chunksize: int) -> None:
    tally = Tally(tmp_path)
    with Pool(2, retries=2, retry_on=ConnectionError) as pool:
        assert pool.starmap(raise_twice, [(tally, n) for n in range(6)], chunksize) == [*range(6)]
    assert tally.total == 18


def die_then_raise(tally: Tally) -> int:
    attempt = tally.add()
    if attempt == 1:
        tasks.die()
    if attempt == 2:
        raise ConnectionError
    return attempt


def test_deaths_and_exceptions_of_one_task(tmp_path: Path) -> None:
    with Pool(1, retries=1, retry_on=ConnectionError) as pool:
        assert pool.apply(die_then_raise, (Tally(tmp_path),)) == 3


# --- What `WorkerDied` tells ------------------------------------------------------------------


def loss(function: Any, *args: Any, **kwds: Any) -> WorkerDied:
    with Pool(1) as pool:
        pids = pool.statistics().worker_pids
        with pytest.raises(WorkerDied) as caught:
            pool.apply(function, args, kwds)
        assert (caught.value.pid,) == pids
        assert pool.apply(tasks.square, (3,)) == 9
        return caught.value


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (15, "SIGTERM"), (6, "SIGABRT")])
def test_worker_died_names_the_signal(number: int, name: str) -> None:
    error = loss(tasks.die, number)
    assert (error.signal, error.exitcode, error.out_of_memory) == (number, -number, False)
    told = f"worker {error.pid} was killed by {name} while running pool.tasks.die({number})"
    assert str(error).startswith(told)


def test_worker_died_names_the_exit_code() -> None:
    error = loss(sys.exit, 3)
    assert (error.signal, error.exitcode) == (None, 3)
    assert str(error) == f"worker {error.pid} left with exit code 3 while running sys.exit(3)"


def test_worker_died_has_the_stack_of_a_crash(context: Any) -> None:
    with context.Pool(1) as pool, pytest.raises(WorkerDied) as caught:
        pool.apply(tasks.crash)
    assert caught.value.signal == signal.SIGSEGV
    assert "in crash" in caught.value.stack
    assert "Its last Python stack:" in str(caught.value)


def take_anything_and_die(*args: object, **kwds: object) -> None:
    tasks.die()


@pytest.mark.parametrize(
    ("args", "kwds", "text"),
    [
        ((), {}, ""),
        ((1, "two"), {}, "1, 'two'"),
        ((1,), {"key": [2]}, "1, key=[2]"),
        ((b"x" * 1000,), {}, "b'" + "x" * 55 + "..."),
        ((Path("a"),), {}, f"{type(Path()).__module__}.PosixPath('a')"),
    ],
)
def test_worker_died_names_the_task_and_its_arguments(
    args: tuple[Any, ...], kwds: dict[str, Any], text: str
) -> None:
    error = loss(take_anything_and_die, *args, **kwds)
    assert error.task == f"pool.test_retries.take_anything_and_die({text})"


def die_at_two(n: int, more: int = 0) -> None:
    if n == 2:
        tasks.die()


def test_worker_died_names_the_item_of_a_chunk() -> None:
    with Pool(1) as pool:
        with pytest.raises(WorkerDied, match=r"while running pool.test_retries.die_at_two\(2\)"):
            pool.map(die_at_two, range(5), chunksize=5)
        with pytest.raises(WorkerDied, match=r"die_at_two\(2, 7\)"):
            pool.starmap(die_at_two, [(1, 5), (2, 7)], chunksize=5)
        with pytest.raises(WorkerDied, match=r"die_at_two\(2\)"):
            list(pool.imap(die_at_two, range(5), chunksize=5))


def test_worker_died_names_a_lambda() -> None:
    error = loss(lambda: tasks.die())  # noqa: PLW0108 - a lambda is what this is about
    assert "<lambda>()" in error.task


def test_the_error_can_be_sent_on() -> None:
    error = loss(tasks.die)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert (copy.pid, copy.signal, copy.exitcode) == (error.pid, error.signal, error.exitcode)
    assert isinstance(copy, garrison.GarrisonError)
