"""The serial engine: a debugger, a profiler and Ctrl-C see all of it, in the caller's thread."""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import garrison
from garrison.engines import Serial
from garrison.errors import ArgumentUnpicklable, PoolBroken, ResultUnpicklable

from . import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[Any]:
    with garrison.Pool(2, engine="serial") as made:
        yield made


def where(*_: object) -> int:
    return threading.get_ident()


def test_all_runs_in_the_callers_thread(pool: garrison.Pool) -> None:
    here, called = threading.get_ident(), []
    assert pool.apply(where) == here
    assert set(pool.map(where, range(3))) == {here}
    assert set(pool.imap(where, range(3))) == {here}
    assert set(pool.imap_unordered(where, iter(range(3)), chunksize=2)) == {here}
    pool.apply_async(abs, (1,), callback=lambda _: called.append(where()))
    pool.map_async(int, ["x"], error_callback=lambda _: called.append(where()))
    assert called == [here, here]
    assert [each for each in threading.enumerate() if each.name.startswith("garrison")] == []


def test_task_runs_when_it_is_submitted(pool: garrison.Pool) -> None:
    order: list[Any] = []
    result = pool.apply_async(order.append, ("task",))
    order.append("submitted")
    assert result.ready()
    assert order == ["task", "submitted"]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("as_iterator", [False, True], ids=["list", "iterator"])
def test_item_runs_when_its_result_is_asked_for(
    pool: garrison.Pool, method: str, as_iterator: bool
) -> None:
    order: list[Any] = []

    def read() -> Iterator[int]:
        for n in range(3):
            order.append(("read", n))
            yield n

    def work(n: int) -> int:
        order.append(("run", n))
        return n

    results = getattr(pool, method)(work, read() if as_iterator else [0, 1, 2])
    assert order == []
    for n in range(3):
        assert next(results) == n
        assert order == ([("read", n), ("run", n)] if as_iterator else [("run", n)])
        order.clear()
    assert list(results) == []


def test_tasks_share_the_programs_objects(pool: garrison.Pool) -> None:
    mutable: list[int] = []
    assert pool.apply(tasks.identity, (mutable,)) is mutable
    pool.map(mutable.append, range(3))
    assert mutable == [0, 1, 2]
    assert pool.apply(threading.Lock) is not None


def test_exception_has_its_frames(pool: garrison.Pool) -> None:
    with pytest.raises(tasks.OwnError) as raised:
        pool.apply(tasks.fail_deep_inside, (42,))
    frames = [frame for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
    assert frames[-1].f_code.co_name == "innermost"
    assert frames[-2].f_locals["n"] == 42  # what `pdb.post_mortem` shows
    assert raised.value.__cause__ is None


def test_tracer_sees_tasks(pool: garrison.Pool) -> None:
    seen: set[str] = set()

    def trace(frame: Any, _event: str, _arg: Any) -> None:
        seen.add(frame.f_code.co_name)

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        pool.map(tasks.square, [1])
        next(pool.imap(tasks.add, [1]))
    finally:
        sys.settrace(before)
    assert {"square", "add"} <= seen


def test_interrupt_ends_the_call_at_once(pool: garrison.Pool) -> None:
    done: list[int] = []

    def interrupted_at_2(n: int) -> int:
        done.append(n)
        if n == 2:
            raise KeyboardInterrupt
        return n

    for call in (pool.map, pool.map_async, pool.starmap):
        done.clear()
        items: Any = [(n,) for n in range(5)] if call == pool.starmap else range(5)
        with pytest.raises(KeyboardInterrupt):
            call(interrupted_at_2, items, chunksize=1)
        assert done == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt):
        pool.apply_async(interrupted_at_2, (2,))
    results = pool.imap(interrupted_at_2, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert pool.statistics().busy == 0
    assert pool.apply(abs, (-1,)) == 1


def test_initializer_runs_in_the_constructor() -> None:
    ran: list[int] = []
    with garrison.Pool(4, ran.append, (1,), engine="serial"):
        assert ran == [1]


def test_failed_initializer_keeps_its_frames() -> None:
    pool = garrison.Pool(1, tasks.begin_badly, engine="serial")
    with pool, pytest.raises(PoolBroken) as raised:
        pool.apply(abs, (1,))
    cause = raised.value.__cause__
    assert cause is not None
    assert cause.__traceback__ is not None
    assert "begin_badly" in "".join(traceback.format_tb(cause.__traceback__))


def test_task_may_use_its_pool(pool: garrison.Pool) -> None:
    def outer(n: int) -> list[int]:
        return pool.map(abs, [-n, n])

    assert pool.map(outer, [1, 2]) == [[1, 1], [2, 2]]


def test_exception_of_a_callback_is_shown(
    pool: garrison.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda info: shown.append(info.exc_type))

    def callback(_: object) -> None:
        raise LookupError("in a callback")

    assert pool.apply_async(abs, (-1,), callback=callback).get() == 1
    assert shown == [LookupError]


# --- With pickles ---------------------------------------------------------------------------------


def test_with_pickles_a_failure_has_both_tracebacks() -> None:
    with garrison.Pool(engine=Serial(pickle=True)) as pool:
        mutable = [1]
        assert pool.apply(tasks.identity, (mutable,)) is not mutable
        with pytest.raises(ArgumentUnpicklable, match=r"arguments\[0\]"):
            pool.apply(tasks.identity, (threading.Lock(),))
        with pytest.raises(ResultUnpicklable) as raised:
            pool.apply(tasks.fail_unpicklable)
        assert isinstance(raised.value.__cause__, tasks.UnpicklableError)
        with pytest.raises(tasks.OwnError) as own:
            pool.apply(tasks.fail_deep_inside, (42,))
        frames = [frame for frame, _ in traceback.walk_tb(own.value.__traceback__)]
        assert frames[-1].f_code.co_name == "innermost"
