"""Calls that the core submits, makes and answers, and the results that it takes."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from types import FrameType
from typing import Any, NoReturn

import pytest

import garrison
from garrison import Pool
from garrison.pool import _results

from . import tasks

VALUES: list[Any] = [
    None,
    True,
    -1,
    2**31,
    2**70,
    1.5,
    2 + 1j,
    "",
    "text \ud800",
    "x" * 300,
    b"bytes" * 100,
    (),
    (1, ("two", b"three"), None),
    [1, [2, [3]]],
    {"key": (1, 2), 3: [4]},
    {1, 2},
    bytearray(b"changed"),
    list(range(1000)),
]


def pair(first: Any, second: Any = None) -> tuple[Any, Any]:
    return first, second


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_call_gives_what_a_call_with_keywords_gives(value: Any) -> None:
    with Pool(1) as pool:
        plain = [pool.apply(pair, (value, value)) for _ in range(2)]
        with_keywords = pool.apply(pair, (value,), {"second": value})
    for found in plain:
        assert found == with_keywords == (value, value)
        assert [type(each) for each in found] == [type(value)] * 2
        # One object in the task, so one object in its result.
        assert (found[0] is found[1]) == (with_keywords[0] is with_keywords[1])


def raise_from(number: int) -> NoReturn:
    raise LookupError(number)


def test_a_failed_call_has_the_traceback_of_its_function_only() -> None:
    with Pool(1) as pool:
        pool.apply(tasks.square, (2,))
        for _ in range(2):
            with pytest.raises(LookupError) as caught:
                pool.apply(raise_from, (3,))
            text = "".join(traceback.format_exception(caught.value))
            remote = text.partition('"""')[2].rpartition('"""')[0]
            assert "in raise_from" in remote
            assert "garrison" not in remote.replace(__file__, "")
        with pytest.raises(TypeError):
            pool.apply(abs, ("x",))
        assert pool.apply(abs, (-1,)) == 1


class Unequal:
    """A result that only `pickle` can encode."""

    def __init__(self, number: int) -> None:
        self.number = number


def test_arguments_and_results_for_pickle_mix_with_plain_ones() -> None:
    with Pool(2) as pool:
        calls: list[tuple[Any, Any]] = [
            (Unequal, (1,)),
            (tasks.square, (2,)),
            (getattr, (Unequal(3), "number")),
            (pair, ([4], (5,))),
            (tasks.square, [6]),
        ]
        for _ in range(3):
            made = [pool.apply_async(function, args) for function, args in calls]
            first, *others = [result.get() for result in made]
            assert first.number == 1
            assert others == [4, 3, ([4], (5,)), 36]


def test_calls_with_retries_and_timeouts_are_ordinary_ones(tmp_path: Any) -> None:
    tally = tasks.Tally(tmp_path)
    with Pool(1) as pool:
        patient = pool.options(retries=2, retry_on=(LookupError,))
        assert patient.apply(fail_twice, (tally,)) == 3
        with pytest.raises(garrison.TaskTimeout):
            pool.options(timeout=0.2).apply(wait_for_ever)
        assert pool.options(retries=1).apply(tasks.square, (3,)) == 9


def fail_twice(tally: tasks.Tally) -> int:
    if tally.add() < 3:
        raise LookupError
    return tally.total


def wait_for_ever() -> None:
    threading.Event().wait()


def leave(code: int) -> NoReturn:
    sys.exit(code)


def test_sys_exit_in_a_call_ends_the_worker() -> None:
    with Pool(1) as pool:
        pool.apply(tasks.square, (2,))
        with pytest.raises(garrison.WorkerDied, match="3"):
            pool.apply(leave, (3,))
        assert pool.apply(tasks.square, (3,)) == 9


def test_functions_that_workers_have_forgotten_are_sent_again() -> None:
    functions = [_make(number) for number in range(600)]
    with garrison.get_context("fork").Pool(1) as pool:
        for _ in range(2):
            results = [pool.apply_async(each, (1,)) for each in functions]
            assert [each.get() for each in results] == list(range(1, 601))


def _make(number: int) -> Any:
    def add(value: int) -> int:
        return value + number

    add.__qualname__ = add.__name__ = f"add_{number}"
    add.__module__ = __name__
    globals()[add.__name__] = add
    return add


# --- Interrupts -------------------------------------------------------------------------------


class AtInstruction:
    """Raises KeyboardInterrupt before one instruction of `AsyncResult`; counts them."""

    def __init__(self, number: int | None) -> None:
        self.number, self.seen = number, 0

    def __enter__(self) -> AtInstruction:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != _results.__file__:
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event in {"line", "opcode"}:  # from 3.12 on not every frame has the second
            self.seen += 1
            if self.seen == self.number:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._step


def square_of(value: Unequal) -> Unequal:
    return Unequal(value.number**2)


def number_of(result: Any) -> int:
    return result if type(result) is int else int(result.number)


def submit_call(pool: Any, function: Any, argument: Any) -> Any:
    return pool.apply_async(function, (argument,))


def submit_map(pool: Any, function: Any, argument: Any) -> Any:
    return pool.map_async(function, [argument] * 3, chunksize=1)


@pytest.mark.parametrize("submit", [submit_call, submit_map])
@pytest.mark.parametrize("function", [tasks.square, square_of])
def test_no_interrupt_loses_a_result(submit: Any, function: Any) -> None:
    """At every instruction between the call of `get` and its return."""
    argument = 7 if function is tasks.square else Unequal(7)
    wanted = 49 if submit is submit_call else [49] * 3

    def numbers(found: Any) -> Any:
        return list(map(number_of, found)) if type(found) is list else number_of(found)

    with Pool(1) as pool:
        number, over = 0, False
        while not over:
            number += 1
            result = submit(pool, function, argument)
            while not result.ready():
                os.sched_yield()
            with AtInstruction(number) as tracer:
                try:
                    assert numbers(result.get()) == wanted
                    over = tracer.seen < number
                except KeyboardInterrupt:
                    pass
            assert numbers(result.get(timeout=60)) == wanted
        assert number > 5
