"""`Options`: one record, checked where it is made; views leave the pool as it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import garrison
from garrison import Options
from garrison.pool import ThreadPool

BAD = [
    ({"timeout": 0}, ValueError, "timeout must be a positive number of seconds, not 0"),
    ({"timeout": -1.5}, ValueError, "timeout .* not -1.5"),
    ({"timeout": float("nan")}, ValueError, "timeout .* not nan"),
    ({"timeout": float("inf")}, ValueError, "timeout .* not inf"),
    ({"timeout": "soon"}, TypeError, "timeout must be a number of seconds, not 'soon'"),
    ({"retries": -1}, ValueError, "retries must be at least 0, not -1"),
    ({"retries": 1 << 40}, ValueError, "retries must be at most .*, not 1099511627776"),
    ({"retries": 1.5}, TypeError, "retries must be a whole number, not 1.5"),
    ({"retries": None}, TypeError, "retries must be a whole number, not None"),
    ({"retry_on": (3,)}, TypeError, "retry_on takes exception types, not 3"),
    ({"retry_on": int}, TypeError, "retry_on takes exception types, not <class 'int'>"),
    ({"retry_on": 3}, TypeError, "retry_on takes exception types, not 3"),
    ({"buffersize": 0}, ValueError, "buffersize must be at least 1, not 0"),
    ({"buffersize": 2.5}, TypeError, "buffersize must be a whole number, not 2.5"),
    ({"seed": "x"}, TypeError, "seed must be a whole number, not 'x'"),
    ({"progress": 3}, TypeError, "progress must be True, a label, .* not 3"),
    ({"n_jobs": 2}, TypeError, "unknown option 'n_jobs'; .*; the number of workers is the first"),
    ({"tiemout": 1}, TypeError, "unknown option 'tiemout'; there are timeout, retries, retry_on"),
]


@pytest.mark.parametrize(("bad", "kind", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_value_is_named(bad: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Options().replace(**bad)


def test_a_bad_value_is_an_error_where_the_pool_or_the_view_is_made() -> None:
    with pytest.raises(ValueError, match="not -1"):
        garrison.Pool(1, retries=-1)
    with pytest.raises(TypeError, match="unknown option 'tiemout'"):
        garrison.Pool(1, tiemout=1)  # type: ignore[call-arg]
    with garrison.Pool(1) as pool:
        with pytest.raises(ValueError, match="not -1"):
            pool.options(retries=-1)
        with pytest.raises(TypeError, match="unknown option 'tiemout'"):
            pool.options(tiemout=1)  # type: ignore[call-arg]
        assert pool.apply(abs, (-1,)) == 1


def test_values_are_brought_into_one_form() -> None:
    options = Options().replace(timeout=5, retries=True, retry_on=OSError)
    assert options == Options(timeout=5.0, retries=1, retry_on=(OSError,))
    assert type(options.timeout) is float
    assert type(options.retries) is int


def test_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().retries = 3


def test_replace_leaves_the_original_as_it_is() -> None:
    original = Options(timeout=5)
    assert original.replace(retries=2) == Options(timeout=5, retries=2)
    assert original == Options(timeout=5)


def test_repr_shows_changed_options() -> None:
    assert repr(Options()) == "Options()"
    options = Options(retry_on=(OSError,), progress=True, seed=7)
    assert repr(options) == "Options(retry_on=(<class 'OSError'>,), progress=True, seed=7)"


def test_a_view_leaves_the_pool_as_it_is() -> None:
    with garrison.Pool(1, timeout=60) as pool:
        view = pool.options(retries=2)
        further = view.options(timeout=30)
        assert "with Options(timeout=60.0, retries=2)" in repr(view)
        assert "with Options(timeout=30.0, retries=2)" in repr(further)
        assert "with Options(timeout=60.0)" in repr(pool.options())
        assert pool.map(abs, [-1]) == view.map(abs, [-1]) == further.map(abs, [-1])


def test_a_view_ends_with_its_pool() -> None:
    with garrison.Pool(1) as pool:
        view = pool.options(retries=2)
    with pytest.raises(garrison.PoolClosed, match="terminated"):
        view.apply(abs, (-1,))


def test_threads_take_the_options_that_threads_can_keep() -> None:
    attempts: list[int] = []

    def at_the_third_time(n: int) -> int:
        attempts.append(n)
        if len(attempts) < 3:
            raise ConnectionError
        return n

    with pytest.raises(ValueError, match="a thread cannot be ended at a timeout of"):
        ThreadPool(1, timeout=5)
    with ThreadPool(1, retries=2, retry_on=ConnectionError) as pool:
        assert pool.apply(at_the_third_time, (7,)) == 7
    assert attempts == [7, 7, 7]
