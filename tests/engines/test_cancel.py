"""`AsyncResult.cancel` over every engine: what waits is withdrawn, what runs ends if it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import garrison

from . import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from .subjects import Subject
    from .tasks import Marks

    MakeMarks = Callable[[str], Marks]


@pytest.mark.needs("parallel")
def test_a_waiting_call_is_withdrawn(pool: garrison.Pool, marks: MakeMarks) -> None:
    go, begun = marks("go"), marks("begun")
    running = [pool.apply_async(tasks.wait_for, (go, 1, n)) for n in range(20)]
    waiting = [pool.apply_async(tasks.stay, (begun, 0)) for _ in range(20)]
    cancelled = [result for result in reversed(waiting) if result.cancel()]
    assert len(cancelled) > 0
    for result in cancelled:
        assert result.cancelled()
        with pytest.raises(garrison.TaskCancelled):
            result.get()
    go.add()
    assert [result.get() for result in running] == list(range(20))
    for result in waiting:
        if not result.cancelled():
            assert result.get() is None


@pytest.mark.needs("parallel")
def test_a_running_call_is_ended_or_goes_on(
    engine: Subject, pool: garrison.Pool, marks: MakeMarks
) -> None:
    begun, go = marks("begun"), marks("go")
    result = pool.apply_async(tasks.begin_and_wait, (begun, go))
    begun.wait_for(1)
    # What can be ended at a timeout can be ended.
    assert result.cancel() == result.cancelled() == ("timeout" not in engine.lacks)
    if result.cancelled():
        with pytest.raises(garrison.TaskCancelled):
            result.get()
        assert pool.map(tasks.square, range(10)) == [n * n for n in range(10)]
    go.add()
    if not result.cancelled():
        assert result.get() == 1


@pytest.mark.needs("parallel")
def test_a_map_is_cancelled(pool: garrison.Pool, marks: MakeMarks) -> None:
    go = marks("go")
    result = pool.map_async(tasks.return_after, [go] * 50, chunksize=1)
    assert result.cancel()
    with pytest.raises(garrison.TaskCancelled):
        result.get()
    go.add()
    assert pool.map(tasks.square, range(10)) == [n * n for n in range(10)]


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_an_iterator_is_closed(pool: garrison.Pool, name: str) -> None:
    results = getattr(pool, name)(tasks.square, range(1000))
    next(results)
    results.close()
    assert list(results) == []
    assert pool.apply(tasks.square, (3,)) == 9


def test_a_call_that_has_ended_cannot_be_cancelled(pool: garrison.Pool) -> None:
    result = pool.apply_async(tasks.square, (3,))
    result.wait()
    assert not result.cancel()
    assert not result.cancelled()
    assert result.get() == 9


def test_the_first_failure_of_a_map_is_raised(pool: garrison.Pool, marks: MakeMarks) -> None:
    begun = marks("begun")
    with pytest.raises(LookupError) as caught:
        pool.map(tasks.fail_first, [(begun, n) for n in range(200)], chunksize=1)
    assert caught.value.args == (0,)
    assert pool.map(tasks.square, range(10)) == [n * n for n in range(10)]
