"""Results and exceptions on their way home, and what an `AsyncResult` does with them."""

from __future__ import annotations

import builtins
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

import pytest

import garrison
from garrison import Pool, ResultUnpicklable
from garrison.pool import MaybeEncodingError, RemoteTraceback, ThreadPool

from . import tasks
from .tasks import Door, Tally

# --- Exceptions -------------------------------------------------------------------------------


def caught_from(function: Any, *args: Any) -> BaseException:
    with Pool(1) as pool:
        try:
            pool.apply(function, args)
        except BaseException as error:
            assert pool.apply(tasks.square, (3,)) == 9
            return error
    raise AssertionError


class Detailed(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
        self.extra: list[int] = []


def raise_detailed() -> NoReturn:
    error = Detailed(7)
    error.extra.append(1)
    raise error


def test_type_arguments_and_attributes_arrive(context: Any) -> None:
    with context.Pool(1) as pool, pytest.raises(Detailed) as caught:
        pool.apply(raise_detailed)
    assert (caught.value.args, caught.value.code, caught.value.extra) == ((7,), 7, [1])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came with Python 3.11")
def test_notes_of_an_exception_arrive() -> None:
    def fail() -> NoReturn:
        error: Any = LookupError("x")
        error.add_note("first")
        error.add_note("second")
        raise error

    error: Any = caught_from(fail)
    assert error.__notes__[:2] == ["first", "second"]


def fail_with_causes() -> NoReturn:
    try:
        try:
            raise KeyError("innermost")  # noqa: TRY301 - this is about chains
        except KeyError as inner:
            raise Detailed(5) from inner
    except Detailed as middle:
        raise ValueError("outermost") from middle


def test_the_chain_of_causes_arrives() -> None:
    error = caught_from(fail_with_causes)
    assert type(error) is ValueError
    assert isinstance(error.__cause__, Detailed)
    assert error.__cause__.code == 5
    assert isinstance(error.__cause__.__cause__, KeyError)
    assert isinstance(error.__cause__.__cause__.__cause__, RemoteTraceback)


def fail_in_handler(suppress: bool) -> NoReturn:
    try:
        raise KeyError("first")  # noqa: TRY301 - this is about chains
    except KeyError:
        if suppress:
            raise ValueError("second") from None
        raise ValueError("second")  # noqa: B904 - this is about implicit chains


def test_the_context_arrives_and_can_be_suppressed() -> None:
    error = caught_from(fail_in_handler, False)
    assert isinstance(error.__context__, KeyError)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert caught_from(fail_in_handler, True).__context__ is None


def fail_in_a_circle() -> NoReturn:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    raise one


def test_a_circle_of_causes_arrives() -> None:
    error = caught_from(fail_in_a_circle)
    assert str(error) == "one"
    assert str(error.__cause__) == "two"
    assert error.__cause__ is not None
    assert error.__cause__.__cause__ is error


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with Python 3.11")
def test_a_group_of_exceptions_arrives() -> None:
    group: Any = vars(builtins)["ExceptionGroup"]

    def fail() -> NoReturn:
        raise group("all", [KeyError(1), group("some", [Detailed(2)])])

    error: Any = caught_from(fail)
    assert [type(each).__name__ for each in error.exceptions] == ["KeyError", "ExceptionGroup"]
    assert error.exceptions[1].exceptions[0].code == 2


def test_the_workers_traceback_is_shown_once_and_without_our_frames() -> None:
    text = "".join(traceback.format_exception(caught_from(raise_detailed)))
    assert text.count("in raise_detailed") == 1
    assert "raise error" in text
    assert "_worker.py" not in text
    assert "The above exception was the direct cause" in text


class TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one}/{two}")


class NotHere(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("cannot be written")


class KeepsLock(Exception):
    def __init__(self) -> None:
        super().__init__("has a lock")
        self.lock = threading.Lock()


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def make_and_raise(kind: type[Exception]) -> NoReturn:
    raise TwoArguments(1, 2) if kind is TwoArguments else kind()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (TwoArguments, "cannot be rebuilt here (TypeError: "),
        (NotHere, "cannot be pickled (cannot be written)"),
        (KeepsLock, "cannot be pickled (cannot pickle '_thread.lock' object)"),
    ],
)
def test_unpicklable_exception_is_described(kind: type[Exception], reason: str) -> None:
    found = caught_from(make_and_raise, kind)
    assert isinstance(found, ResultUnpicklable)
    assert found.type_name == f"pool.test_results.{kind.__name__}"
    assert f"the task raised {found.type_name}: " in str(found)
    assert reason in str(found)
    assert "in make_and_raise" in found.remote_traceback


def test_unpicklable_cause_is_dropped_alone() -> None:
    def fail() -> NoReturn:
        raise Detailed(3) from KeepsLock()

    error = caught_from(fail)
    assert isinstance(error, Detailed)
    assert error.code == 3
    assert "KeepsLock" in str(error.__cause__)


def test_an_exception_without_a_text() -> None:
    assert isinstance(caught_from(tasks.fail, BadText()), BadText)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, BaseException])
def test_exceptions_that_no_handler_stops_arrive_too(kind: type[BaseException]) -> None:
    error = caught_from(tasks.fail, kind("x"))
    assert type(error) is kind
    assert error.args == ("x",)


def test_an_exception_of_a_local_class_arrives() -> None:
    class Local(Exception):
        pass

    def fail() -> NoReturn:
        raise Local("x")

    assert "Local" in repr(caught_from(fail))


def test_a_stop_iteration_of_a_task_is_an_error_like_others() -> None:
    with Pool(1) as pool:
        with pytest.raises(StopIteration):
            pool.apply(tasks.fail, (StopIteration(3),))
        with pytest.raises(StopIteration):
            pool.map(tasks.fail, [StopIteration(3)])


# --- Results ----------------------------------------------------------------------------------


class Unpicklable:
    def __reduce__(self) -> Any:
        raise LookupError("not to be sent")


class Unbuildable:
    def __reduce__(self) -> Any:
        return (int, ("no number",))


@pytest.mark.parametrize("make_it", [Unpicklable, threading.Lock, lambda: (n for n in "ab")])
def test_a_result_that_cannot_be_sent(make_it: Any) -> None:
    with Pool(1) as pool:
        with pytest.raises(MaybeEncodingError, match="Error sending result") as caught:
            pool.apply(make_it)
        error: Any = caught.value
        assert "object" in error.value
        assert error.exc
        with pytest.raises(MaybeEncodingError):
            pool.map(lambda _: make_it(), range(3))
        assert pool.apply(tasks.square, (3,)) == 9


def test_a_result_that_cannot_be_rebuilt() -> None:
    with Pool(1) as pool:
        with pytest.raises(
            ResultUnpicklable, match=r"cannot be rebuilt here \(ValueError: invalid"
        ):
            pool.apply(Unbuildable)
        results = pool.imap(lambda n: Unbuildable() if n == 1 else n, range(3), chunksize=1)
        assert next(results) == 0
        with pytest.raises(ResultUnpicklable):
            next(results)
        assert next(results) == 2


def unpicklable_at_one(n: int) -> Any:
    return threading.Lock() if n == 1 else n


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_result_that_cannot_be_sent_costs_only_itself(chunksize: int) -> None:
    with Pool(1) as pool:
        results = pool.imap(unpicklable_at_one, range(3), chunksize)
        assert next(results) == 0
        with pytest.raises(MaybeEncodingError):
            next(results)
        assert next(results) == 2


@pytest.mark.parametrize("value", [None, NotImplemented, Ellipsis, (), KeyError(3), LookupError])
def test_result_of_any_value(value: Any) -> None:
    with Pool(1) as pool:
        back = pool.apply(tasks.identity, (value,))
        assert back == value or repr(back) == repr(value)
        assert repr(pool.map(tasks.identity, [value])) == repr([value])
        assert repr(list(pool.imap(tasks.identity, [value]))) == repr([value])


# --- AsyncResult ------------------------------------------------------------------------------


def test_get_twice_gives_the_same_object() -> None:
    with Pool(1) as pool:
        results: list[Any] = [pool.apply_async(list, ("ab",)), pool.map_async(str, range(3))]
        for result in results:
            assert result.get() is result.get()
        failed = pool.apply_async(tasks.fail, (LookupError(),))
        errors = []
        for _ in range(2):
            with pytest.raises(LookupError) as caught:
                failed.get()
            errors.append(caught.value)
        assert errors[0] is errors[1]
        assert failed.ready()
        assert not failed.successful()


def test_ready_and_successful_before_and_after_the_end(tmp_path: Path) -> None:
    here, go = Door(tmp_path, "here"), Door(tmp_path, "go")
    with Pool(1) as pool:
        result = pool.apply_async(tasks.push_and_wait, (here, go))
        many = pool.map_async(tasks.square, range(5))
        here.wait()
        for pending in (result, many):
            assert not pending.ready()
            assert "pending" in repr(pending)
            with pytest.raises(ValueError, match="not ready"):
                pending.successful()
            for timeout in (0, 0.01, -1):
                with pytest.raises(garrison.TimeoutError):
                    pending.get(timeout)
                pending.wait(timeout)
        go.push()
        for pending in (result, many):
            pending.wait()
            assert pending.ready()
            assert pending.successful()
            assert "ready" in repr(pending)
        assert many.get(0) == [0, 1, 4, 9, 16]


def test_threads_wait_for_one_result(tmp_path: Path) -> None:
    here, go = Door(tmp_path, "here"), Door(tmp_path, "go")
    with Pool(1) as pool:
        result = pool.apply_async(tasks.push_and_wait, (here, go))
        many = pool.map_async(list, ["ab"] * 10)
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(result.get())) for _ in range(5)]
        threads += [threading.Thread(target=lambda: found.append(many.get())) for _ in range(5)]
        for thread in threads:
            thread.start()
        here.wait()
        go.push()
        for thread in threads:
            thread.join()
        assert len(found) == 10
        assert len({id(each) for each in found if isinstance(each, list)}) == 1
        assert [each for each in found if isinstance(each, int)] == [result.get()] * 5


def test_threads_submit_and_get_at_the_same_time() -> None:
    with Pool(2) as pool:
        found: list[int] = []

        def work(start: int) -> None:
            found.extend(pool.apply(tasks.square, (n,)) for n in range(start, start + 200))

        threads = [threading.Thread(target=work, args=(200 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == [n * n for n in range(800)]
        assert pool.statistics().in_flight == 0


def test_a_dropped_result_is_no_dropped_task(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with Pool(2) as pool:
        for n in range(100):
            pool.apply_async(tally.add, (str(n),))
        pool.map_async(tally.add, map(str, range(100, 200)))
        pool.close()
        pool.join()
    assert sorted(map(int, tally.marks())) == list(range(200))


def test_a_dropped_result_frees_its_cell() -> None:
    with Pool(1) as pool:
        for _ in range(20):
            for _ in range(100):
                pool.apply_async(bytes, (100_000,))
            pool.map_async(bytes, [100_000] * 10)
            pool.apply(tasks.square, (3,))
            # Cells of this round at the most: a submission gives those of the last one back.
            assert pool.statistics().in_flight <= 110
        assert pool._backend.parent.allocated < 1 << 16


def test_a_result_may_be_read_after_the_pool() -> None:
    with Pool(2) as pool:
        done = pool.apply_async(tasks.square, (3,))
        many = pool.map_async(tasks.square, range(100))
        pool.close()
        pool.join()
    assert done.get() == 9
    assert many.get() == [n * n for n in range(100)]


def test_pending_result_is_an_error_after_terminate() -> None:
    with Pool(1) as pool:
        running = pool.apply_async(tasks.forever)
        waiting = pool.map_async(tasks.square, range(100))
    for result in (running, waiting):
        with pytest.raises(garrison.PoolTerminated, match="terminated before this task was over"):
            result.get()
        with pytest.raises(garrison.PoolTerminated):
            result.get(10)


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_terminate_ends_waits_for_results(kind: Any, tmp_path: Path) -> None:
    called: list[object] = []
    here, go = Door(tmp_path, "here"), Door(tmp_path, "go")
    pool = kind(1)
    pending = [
        pool.apply_async(tasks.push_and_wait, (here, go)),
        pool.map_async(tasks.square, range(100)),
        pool.apply_async(tasks.square, (3,), {}, called.append, called.append),
    ]
    here.wait()
    waiters = [threading.Thread(target=each.wait) for each in pending]
    for waiter in waiters:
        waiter.start()
    pool.terminate()
    for waiter in waiters:
        waiter.join()
    for result in pending:
        result.wait()
        result.wait(60)
        assert not result.ready()
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        for timeout in (None, 0, 60):
            with pytest.raises(garrison.PoolTerminated):
                result.get(timeout)
    assert not called
    if kind is ThreadPool:
        go.push()
    pool.join()


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
@pytest.mark.parametrize("end", ["close", "terminate", "with", "forgotten"])
@pytest.mark.filterwarnings("ignore:unclosed running")
def test_ready_results_outlive_terminate(kind: Any, end: str) -> None:
    pool = kind(2)
    results = [
        pool.apply_async(tasks.square, (3,)),
        pool.map_async(tasks.square, range(3)),
        pool.apply_async(tasks.square, (4,), callback=tasks.identity),
    ]
    failed = pool.apply_async(tasks.fail, (LookupError(),))
    for result in [*results, failed]:
        result.wait()
    if end == "with":
        with pool:
            pass
    elif end != "forgotten":
        getattr(pool, end)()
        pool.join()
    del pool
    assert [result.get(0) for result in results] == [9, [0, 1, 4], 16]
    assert all(result.ready() and result.successful() for result in results)
    with pytest.raises(LookupError):
        failed.get()
    assert not failed.successful()
