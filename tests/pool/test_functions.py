"""Functions: by reference where workers can import them, by value where not, and always current."""

from __future__ import annotations

import functools
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from garrison import ArgumentUnpicklable, Pool
from garrison.pool._function_registry import FunctionRegistry

from . import tasks

FACTOR = 1


def set_factor(value: int) -> None:
    global FACTOR  # noqa: PLW0603 - what initializers do
    FACTOR = value


def scale(n: int) -> int:
    return FACTOR * n


# --- By value ---------------------------------------------------------------------------------


def test_lambdas_and_closures_run_in_workers(context: Any) -> None:
    offset = 10

    def shifted(n: int) -> int:
        return n + offset

    with context.Pool(2) as pool:
        assert pool.map(lambda n: n * n, range(5)) == [0, 1, 4, 9, 16]
        assert pool.map(shifted, range(3)) == [10, 11, 12]
        assert pool.starmap(lambda a, b=5: a - b, [(1, 2), (3,)]) == [-1, -2]
        assert pool.apply(lambda *args, **kwds: (args, kwds), (1, 2), {"k": 3}) == (
            (1, 2),
            {"k": 3},
        )
        assert list(pool.imap(lambda n: -n, range(3))) == [0, -1, -2]


def test_a_lambda_in_an_argument(context: Any) -> None:
    with context.Pool(1) as pool:
        assert pool.apply(map_once, (lambda n: n + 1, 4)) == 5
        assert pool.map(call, [lambda: 1, lambda: 2]) == [1, 2]


def map_once(function: Callable[[int], int], n: int) -> int:
    return function(n)


def call(function: Callable[[], Any]) -> Any:
    return function()


def test_a_captured_value_is_the_one_at_the_call() -> None:
    with Pool(1) as pool:
        for n in range(5):
            assert pool.apply(lambda: n) == n  # noqa: B023 - the loop's value at the call


def test_captured_object_has_its_state_at_the_call() -> None:
    basket: list[int] = []
    with Pool(1) as pool:
        for n in range(3):
            basket.append(n)
            assert pool.apply(lambda: list(basket)) == basket
        pool.apply(lambda: basket.clear())  # noqa: PLW0108 - a copy's clear
    assert basket == [0, 1, 2]


def test_lambda_sees_the_value_of_a_global_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    function = lambda n: FACTOR * n  # noqa: E731
    with Pool(1) as pool:
        assert pool.apply(function, (3,)) == 3
        monkeypatch.setattr(f"{__name__}.FACTOR", 7)
        assert pool.apply(function, (3,)) == 21


def test_local_functions_that_call_themselves_or_each_other() -> None:
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    def is_even(n: int) -> bool:
        return n == 0 or is_odd(n - 1)

    def is_odd(n: int) -> bool:
        return n != 0 and is_even(n - 1)

    with Pool(1) as pool:
        assert pool.apply(factorial, (10,)) == 3628800
        assert pool.map(is_even, range(4)) == [True, False, True, False]
        assert pool.map(is_odd, range(4)) == [False, True, False, True]


def test_partials_run_in_workers(context: Any) -> None:
    with context.Pool(1) as pool:
        assert pool.map(functools.partial(pow, 2), range(4)) == [1, 2, 4, 8]
        assert pool.map(functools.partial(lambda a, b: a - b, b=1), range(3)) == [-1, 0, 1]
        assert pool.apply(functools.partial(functools.partial(max, 3), 4), (5,)) == 5


def test_functions_of_a_decorator() -> None:
    def twice(function: Callable[[int], int]) -> Callable[[int], int]:
        @functools.wraps(function)
        def wrapper(n: int) -> int:
            return function(function(n))

        return wrapper

    @twice
    def add_one(n: int) -> int:
        return n + 1

    with Pool(1) as pool:
        assert pool.map(add_one, [1, 2]) == [3, 4]
        # Its name leads to another function: by reference it would lose the decorator.
        assert pool.map(twice(tasks.square), [2, 3]) == [16, 81]


def test_a_local_class_and_its_instances() -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

        def double(self) -> int:
            return 2 * self.x

        def __call__(self, n: int) -> int:
            return self.x + n

    with Pool(1) as pool:
        assert pool.map(Point(5), [1, 2]) == [6, 7]
        assert pool.apply(Point(5).double) == 10
        assert pool.apply(lambda point: point.double(), (Point(4),)) == 8


# --- By reference -----------------------------------------------------------------------------


def test_a_task_sees_the_global_that_the_initializer_set(context: Any) -> None:
    with context.Pool(2, set_factor, (7,)) as pool:
        assert pool.map(scale, range(4)) == [0, 7, 14, 21]
    assert FACTOR == 1


def test_a_lambda_sees_the_global_that_the_initializer_set(context: Any) -> None:
    with context.Pool(2, set_factor, (7,)) as pool:
        assert pool.map(lambda n: FACTOR * n, range(4)) == [0, 7, 14, 21]


def test_a_lambda_as_initializer(context: Any) -> None:
    with context.Pool(2, lambda value: set_factor(value), (7,)) as pool:  # noqa: PLW0108
        assert pool.map(scale, range(4)) == [0, 7, 14, 21]


def remember(value: int) -> list[int]:
    _seen.append(value)
    return _seen


_seen: list[int] = []


def test_worker_keeps_globals_that_a_function_has_set(context: Any) -> None:
    with context.Pool(1) as pool:
        assert [pool.apply(remember, (n,)) for n in range(3)] == [[0], [0, 1], [0, 1, 2]]
    assert _seen == []


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def plus(self, n: int) -> int:
        return self.count + n

    @classmethod
    def name(cls) -> str:
        return cls.__name__

    @staticmethod
    def negative(n: int) -> int:
        return -n


def test_methods_run_in_workers(context: Any) -> None:
    with context.Pool(1) as pool:
        assert pool.map(Counter.negative, [1, 2]) == [-1, -2]
        assert pool.apply(Counter.name) == "Counter"
        assert pool.map("abc".index, ["b", "c"]) == [1, 2]
        assert pool.map(str.upper, ["b", "c"]) == ["B", "C"]


def test_a_bound_method_is_pickled_at_each_use() -> None:
    counter = Counter()
    with Pool(1) as pool:
        for n in range(4):
            counter.count = n
            assert pool.apply(counter.plus, (10,)) == 10 + n


def test_types_and_builtins_run_in_workers(context: Any) -> None:
    with context.Pool(1) as pool:
        assert pool.map(float, (1, 2)) == [1.0, 2.0]
        assert pool.map(len, ["a", "bc"]) == [1, 2]
        assert pool.apply(dict, ([("a", 1)],), {"b": 2}) == {"a": 1, "b": 2}
        assert pool.apply(Counter).count == 0


def test_many_functions_do_not_pile_up() -> None:
    with Pool(1) as pool:
        pending = [
            pool.apply_async(lambda n=n: n) for n in range(2 * FunctionRegistry.MAX_FUNCTIONS)
        ]
        assert [result.get() for result in pending] == list(
            range(2 * FunctionRegistry.MAX_FUNCTIONS)
        )
        # The first ones were forgotten, and are learned again.
        assert pool.apply(lambda n=0: n) == 0


# --- What cannot be sent ----------------------------------------------------------------------


class Session:
    def __init__(self) -> None:
        self.name = "x"
        self.lock = threading.Lock()


class Refuses:
    def __reduce__(self) -> Any:
        raise LookupError("not to be sent")


LOCK = threading.Lock()
captured = LOCK
PATHS: dict[str, Callable[[Pool], object]] = {
    r"the arguments\[0\] to": lambda pool: pool.apply(tasks.identity, (LOCK,)),
    r"the arguments\[0\].lock": lambda pool: pool.apply(tasks.identity, (Session(),)),
    r"the arguments\[1\]\['key'\]\[2\].lock": lambda pool: pool.apply_async(
        tasks.identity, (1, {"key": [0, 0, Session()]})
    ).get(),
    r"the arguments\[0\]\[1\]": lambda pool: pool.apply(pow, (2, LOCK), {"mod": 3}),
    r"the arguments\[1\]\['mod'\]": lambda pool: pool.apply(pow, (2, 2), {"mod": LOCK}),
    r"the arguments\[2\]\[0\]": lambda pool: pool.starmap(pow, [(1, 1), (1, 1), (LOCK, 1)], 3),
    r"the arguments\[1\].lock": lambda pool: pool.map(tasks.identity, [1, Session()], 2),
    r"function .*scale_by.* global 'LOCK'": lambda pool: pool.apply(scale_by_lock()),
    r"function .* closure variable 'lock'": lambda pool: pool.apply(capture(LOCK)),
    r"function .*partial.*\.args\[0\]|.args\[0\]": lambda pool: pool.apply(
        functools.partial(tasks.identity, LOCK)
    ),
    r".__self__.lock": lambda pool: pool.apply(SessionWithMethod().use),
}


class SessionWithMethod(Session):
    def use(self) -> None:
        """Never run."""


def scale_by_lock() -> Callable[[], object]:
    return lambda: LOCK


def capture(lock: object) -> Callable[[], object]:
    return lambda: lock


@pytest.mark.parametrize("path", PATHS)
def test_path_to_an_unpicklable_part_is_named(path: str) -> None:
    with Pool(1) as pool:
        for _ in range(2):
            with pytest.raises(ArgumentUnpicklable, match=path) as caught:
                PATHS[path](pool)
            assert isinstance(caught.value, (pickle.PicklingError, TypeError))
            assert "_thread.lock" in str(caught.value)
            assert "make it in the worker" in str(caught.value)
        assert pool.map(tasks.square, [3]) == [9]
        assert pool.statistics().in_flight == 0


def test_error_of_a_reduce_is_raised_unchanged() -> None:
    with Pool(1) as pool:
        with pytest.raises(LookupError, match="not to be sent") as caught:
            pool.apply(tasks.identity, ([1, Refuses()],))
        notes = getattr(caught.value, "__notes__", ["the arguments[0][1]"])
        assert any("the arguments[0][1]" in note for note in notes)
        assert pool.map(tasks.square, [3]) == [9]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_an_item_that_cannot_be_sent(chunksize: int) -> None:
    items = [1, 2, LOCK, 4]
    with Pool(1) as pool:
        results = pool.imap(tasks.identity, items, chunksize)
        found: list[object] = []
        while len(found) < 4:
            try:
                found.append(next(results))
            except ArgumentUnpicklable:
                found.append("error")
        assert found == [1, 2, "error", 4]
        with pytest.raises(ArgumentUnpicklable, match=r"\[2\]"):
            pool.map(tasks.identity, items, chunksize=4)
        assert pool.statistics().in_flight == 0


@pytest.mark.parametrize("bad", [None, 3, "square"])
def test_noncallable_function_is_named(bad: Any) -> None:
    with Pool(1) as pool:
        for method in (pool.map, pool.starmap, pool.imap, pool.imap_unordered):
            with pytest.raises(TypeError, match=f"must be callable, not {bad!r}"):
                list(method(bad, [(1,)]))
        for result in (pool.apply_async(bad), pool.map_async(bad, [1])):
            # A mistake that nobody notices: `apply_async(f())`. It is told to those who ask.
            with pytest.raises(TypeError, match=f"must be callable, not {bad!r}"):
                result.get()
        with pytest.raises(TypeError, match="a callback must be callable, not 3"):
            pool.apply_async(tasks.square, (3,), callback=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="initializer must be callable, not 3"):
        Pool(1, 3)  # type: ignore[arg-type]


def test_a_pool_cannot_be_sent() -> None:
    with Pool(1) as pool:
        with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
            pickle.dumps(pool)
        with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
            pool.apply(tasks.identity, (pool,))
        assert pool.apply(tasks.square, (3,)) == 9
