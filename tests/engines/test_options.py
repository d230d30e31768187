"""`Options` over every engine: kept, or refused with a reason."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from garrison.errors import TaskTimeout

from . import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import garrison

    from .subjects import Subject
    from .tasks import Marks

    MakeMarks = Callable[[str], Marks]


@pytest.mark.needs("timeout")
def test_timeout_ends_that_task_alone(pool: garrison.Pool, marks: MakeMarks) -> None:
    other = pool.apply_async(tasks.wait_for, (marks("go"), 1, "other"))
    with pytest.raises(TaskTimeout, match="stay"):
        pool.options(timeout=0.3).apply(tasks.stay, (marks("begun"),))
    assert marks("begun").count() == 1
    marks("go").add()
    assert other.get() == "other"
    assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]


@pytest.mark.needs("timeout")
def test_timeout_of_an_item_is_its_own(pool: garrison.Pool, marks: MakeMarks) -> None:
    begun = marks("begun")
    results = pool.options(timeout=0.5).imap(lambda n: tasks.stay(begun) if n == 1 else n, range(3))
    assert next(results) == 0
    with pytest.raises(TaskTimeout):
        next(results)
    assert next(results) == 2


def test_timeout_is_kept_or_refused(engine: Subject, pool: garrison.Pool) -> None:
    if "timeout" not in engine.lacks:
        assert pool.options(timeout=60).apply(tasks.square, (2,)) == 4
        return
    with pytest.raises(ValueError, match="timeout"):
        pool.options(timeout=60)
    with pytest.raises(ValueError, match="timeout"):
        engine.pool(timeout=60)


def test_retry_on_tries_again(pool: garrison.Pool, marks: MakeMarks) -> None:
    view = pool.options(retries=2, retry_on=ConnectionError)
    assert view.apply(tasks.fail_until, (marks("a"), 2)) == 3
    with pytest.raises(ConnectionError, match="attempt 3"):
        view.apply(tasks.fail_until, (marks("b"), 5))
    with pytest.raises(ConnectionError, match="attempt 1"):
        pool.apply(tasks.fail_until, (marks("c"), 5))


def test_retry_on_is_for_each_item(pool: garrison.Pool, marks: MakeMarks) -> None:
    tries = [marks(f"item{n}") for n in range(4)]
    view = pool.options(retries=1, retry_on=(ConnectionError,))
    assert view.map(lambda n: tasks.fail_until(tries[n], n % 2), range(4)) == [1, 2, 1, 2]
    again = [marks(f"again{n}") for n in range(4)]
    found = list(view.imap(lambda n: tasks.fail_until(again[n], n % 2), range(4)))
    assert found == [1, 2, 1, 2]


def test_other_errors_are_not_tried_again(pool: garrison.Pool, marks: MakeMarks) -> None:
    view = pool.options(retries=3, retry_on=OSError)

    def fail(marks: Any) -> None:
        marks.add()
        raise KeyError("no")

    with pytest.raises(KeyError):
        view.apply(fail, (marks("once"),))
    assert marks("once").count() == 1


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_buffersize_bounds_what_is_read_ahead(pool: garrison.Pool, method: str) -> None:
    read: list[int] = []
    lock = threading.Lock()

    def source() -> Iterator[int]:
        for n in itertools.count():
            with lock:
                read.append(n)
            yield n

    results = getattr(pool, method)(tasks.square, source(), buffersize=3)
    for taken in range(1, 21):
        next(results)
        with lock:
            assert len(read) <= taken + 3
    assert getattr(pool.options(buffersize=2), method)(tasks.square, [5]).next() == 25


def test_progress_changes_no_result(
    pool: garrison.Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    view = pool.options(progress=True)
    assert view.map(tasks.square, range(4)) == [0, 1, 4, 9]
    assert list(view.imap(tasks.square, range(4))) == [0, 1, 4, 9]
    assert capsys.readouterr().out == ""


def test_unknown_option_is_an_error(engine: Subject) -> None:
    with pytest.raises(TypeError, match="unknown option"):
        engine.pool(retrys=3)


@pytest.mark.needs("seeds")
def test_seeded_workers_draw_the_same_each_time(engine: Subject) -> None:
    def first_draws(seed: int) -> set[float]:
        with engine.pool(1, seed=seed) as pool:
            assert pool.seed == seed
            return set(pool.map(tasks.draw, range(3), chunksize=3))

    assert first_draws(1) == first_draws(1) != first_draws(2)


@pytest.mark.needs("seeds", "parallel")
def test_seeded_workers_differ(engine: Subject, marks: MakeMarks) -> None:
    both = marks("both")

    def draw(_: object) -> float:
        tasks.meet(both)
        return tasks.draw()

    with engine.pool(2, seed=5) as pool:
        assert len(set(pool.map(draw, range(2), chunksize=1))) == 2


def test_an_exception_has_a_note_of_its_item(pool: Any) -> None:
    for results in (
        lambda: pool.map(tasks.fail_at, [(1, 2)] * 2 + [(2, 2)], 2),
        lambda: pool.starmap(tasks.fail_at, [(1, 2), (2, 2)]),
    ):
        with pytest.raises((ValueError, TypeError)) as raised:
            results()  # type: ignore[no-untyped-call] # a lambda
        error: Any = raised.value
        (note,) = error.__notes__
        assert note.startswith("item ")
        assert "; attempt 1 in " in note


def test_failures_are_returned_or_skipped(pool: Any) -> None:
    items = [(0, 1), (1, 1), (2, 1)]
    zero, failed, two = pool.options(on_error="return").starmap(tasks.fail_at, items, 3)
    assert (zero, failed.index, failed.item, failed.attempt, two) == (0, 1, "(1, 1)", 1, 2)
    assert isinstance(failed.error, ValueError)
    skipping = pool.options(on_error="skip")
    assert skipping.starmap(tasks.fail_at, items) == [0, 2]
    assert skipping.map(lambda n: 1 // n, [1, 0, -1], 3) == [1, -1]
    assert list(skipping.imap(lambda n: 1 // n, [1, 0, -1])) == [1, -1]


def test_the_state_of_the_initializer_is_passed(engine: Subject) -> None:
    if engine.shares_pool:
        pytest.skip("its pools take long to start")
    made: Any = engine.pool(1, list, ((1, 2, 3),), pass_state=True)
    with made as pool:
        assert pool.map(lambda state, n: len(state) + n, [1, 2], 2) == [4, 5]
        assert pool.apply(lambda state, n: len(state) + n, (1,)) == 4


@pytest.mark.parametrize("options", [{"logs": True}, {"finalizer": tasks.pid}], ids=str)
def test_output_and_finalizers_are_kept_or_refused(engine: Subject, options: Any) -> None:
    if engine.shares_pool:
        pytest.skip("its pools take long to start")
    if engine.name in {"processes", "threads"} or engine.name.startswith("serial"):
        with engine.pool(1, **options) as pool:
            assert pool.map(tasks.square, [2]) == [4]
            pool.close()
            pool.join()
    else:
        with pytest.raises(ValueError, match="this engine's workers share no memory"):
            engine.pool(1, **options)
