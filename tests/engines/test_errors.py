"""Exceptions of tasks, and what cannot be sent, over every engine."""

from __future__ import annotations

import platform
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from garrison.errors import ArgumentUnpicklable, ResultUnpicklable

from . import tasks

if TYPE_CHECKING:
    import garrison


def raised_by(pool: garrison.Pool, function: Any, *args: Any) -> Any:
    """Return what a call raises; the pool works afterwards."""
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - the caller looks at it
        pool.apply(function, args)
    assert pool.apply(tasks.square, (7,)) == 49
    return raised.value


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def test_exception_arrives_with_type_and_attributes(pool: garrison.Pool) -> None:
    error = raised_by(pool, tasks.fail, tasks.OwnError("here", 42))
    assert type(error) is tasks.OwnError
    assert error.args == ("here", 42)
    assert error.code == 42


def test_traceback_shows_where_it_was_raised(pool: garrison.Pool) -> None:
    text = shown(raised_by(pool, tasks.fail_deep_inside, 3))
    assert "in innermost" in text
    assert 'raise OwnError("deep", n)' in text


@pytest.mark.needs("hosts")
def test_traceback_names_the_host(pool: garrison.Pool) -> None:
    text = shown(raised_by(pool, tasks.fail_deep_inside, 3))
    assert "node" in text or platform.node() in text


def test_cause_arrives(pool: garrison.Pool) -> None:
    error = raised_by(pool, tasks.fail_with_cause)
    assert type(error) is tasks.OwnError
    assert type(error.__cause__) is ValueError
    text = shown(error)
    assert "invalid literal" in text
    assert "direct cause" in text


def test_context_arrives(pool: garrison.Pool) -> None:
    error = raised_by(pool, tasks.fail_with_context)
    assert type(error.__context__) is ValueError
    assert "invalid literal" in shown(error)


def test_exception_of_a_class_by_value(pool: garrison.Pool) -> None:
    class LocalError(Exception):
        pass

    def fail() -> None:
        raise LocalError("mine")

    error = raised_by(pool, fail)
    assert type(error) is LocalError
    assert error.args == ("mine",)


def test_note_of_an_exception_arrives(pool: garrison.Pool) -> None:
    if not hasattr(BaseException, "add_note"):
        pytest.skip("notes came with Python 3.11")

    def fail() -> None:
        error: Any = ValueError("noted")
        error.add_note("look here")
        raise error

    assert raised_by(pool, fail).__notes__[0] == "look here"


def test_map_raises_the_first_error_of_the_input(pool: garrison.Pool) -> None:
    with pytest.raises(ValueError, match="item 3"):
        pool.map(lambda n: tasks.fail_at(n, 3 if n < 5 else n), range(8), chunksize=2)
    assert pool.map(tasks.square, [1, 2]) == [1, 4]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_imap_goes_on_after_an_error(pool: garrison.Pool, chunksize: int) -> None:
    results = pool.imap(lambda n: tasks.fail_at(n, 2), range(5), chunksize)
    found: list[Any] = []
    for _ in range(5):
        try:
            found.append(next(results))
        except ValueError as error:
            found.append(str(error))
    assert found == [0, 1, "item 2", 3, 4]
    with pytest.raises(StopIteration):
        next(results)


def test_error_of_map_async_is_raised_by_get(pool: garrison.Pool) -> None:
    result = pool.map_async(int, ["1", "x", "3"])
    result.wait()
    assert not result.successful()
    with pytest.raises(ValueError, match="invalid literal"):
        result.get()


# --- What cannot be sent --------------------------------------------------------------------------


@pytest.mark.needs("pickling")
def test_unpicklable_argument_is_named(pool: garrison.Pool) -> None:
    error = raised_by(pool, tasks.identity, {"a": [1, threading.Lock()]})
    assert isinstance(error, ArgumentUnpicklable)
    assert isinstance(error, TypeError)
    assert "['a'][1]" in str(error)


@pytest.mark.needs("pickling")
def test_unpicklable_item_is_an_error_of_that_item(pool: garrison.Pool) -> None:
    results = pool.imap(lambda n: n, [1, threading.Lock(), 3])
    assert next(results) == 1
    with pytest.raises(ArgumentUnpicklable):
        next(results)
    assert next(results) == 3
    with pytest.raises(ArgumentUnpicklable):
        pool.map(tasks.identity, [1, threading.Lock()])


@pytest.mark.needs("pickling")
def test_unpicklable_function_is_named(pool: garrison.Pool) -> None:
    lock = threading.Lock()
    error = raised_by(pool, lambda n: n if lock.locked() else 0, 1)
    assert isinstance(error, ArgumentUnpicklable)
    assert "lock" in str(error)


@pytest.mark.needs("pickling")
def test_unpicklable_result_is_an_error_of_that_task(pool: garrison.Pool) -> None:
    error = raised_by(pool, tasks.make_lock)
    assert "pickle" in str(error)
    assert "lock" in str(error)
    results = pool.imap(lambda n: threading.Lock() if n == 1 else n, range(3))
    assert next(results) == 0
    with pytest.raises(Exception, match="lock"):
        next(results)
    assert next(results) == 2


@pytest.mark.needs("pickling")
def test_unpicklable_exception_is_told_with_its_traceback(pool: garrison.Pool) -> None:
    error = raised_by(pool, tasks.fail_unpicklable)
    assert isinstance(error, ResultUnpicklable)
    assert "with a lock" in str(error)
    assert "fail_unpicklable" in error.remote_traceback


@pytest.mark.needs("pickling")
def test_exception_that_cannot_be_rebuilt_is_told_with_its_traceback(pool: garrison.Pool) -> None:
    error = raised_by(pool, tasks.fail_badly_made)
    assert isinstance(error, ResultUnpicklable)
    assert "onetwo" in str(error)
    assert error.type_name.endswith("BadlyMadeError")
    assert "fail_badly_made" in error.remote_traceback


def test_system_exit_is_an_error_of_that_task(pool: garrison.Pool) -> None:
    error = raised_by(pool, tasks.leave, 3)
    assert error is not None
