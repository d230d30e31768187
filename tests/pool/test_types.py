"""Result types as a type checker infers them: checked by mypy, which reads all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from garrison.pool import AsyncResult, IMapIterator, MapResult, Pool, ThreadPool

if TYPE_CHECKING:
    import multiprocessing.pool

    from typing_extensions import assert_type

    def one_call(pool: Pool | ThreadPool) -> None:
        assert_type(pool.apply(len, ("ab",)), int)
        assert_type(pool.apply_async(len, ("ab",)), AsyncResult[int])
        assert_type(pool.apply_async(len, ("ab",), callback=print).get(timeout=1), int)

    def many_calls(pool: Pool | ThreadPool) -> None:
        assert_type(pool.map(len, ["ab"]), list[int])
        assert_type(pool.starmap(isinstance, [(1, int)]), list[bool])
        assert_type(pool.map_async(len, ["ab"]), AsyncResult[list[int]])
        assert_type(pool.map_async(len, ["ab"]).get(), list[int])
        assert_type(pool.options(timeout=1).map(len, ["ab"]), list[int])

    def iterators(pool: Pool | ThreadPool) -> None:
        assert_type(pool.imap(len, ["ab"]), IMapIterator[int])
        assert_type(next(pool.imap(len, ["ab"])), int)
        assert_type(list(pool.imap_unordered(len, ["ab"])), list[int])

    def as_standard(result: MapResult[int]) -> multiprocessing.pool.ApplyResult[list[int]]:
        return result


def test_results_take_a_type_at_run_time_as_the_standard_ones() -> None:
    assert AsyncResult[int].__args__ == (int,)  # type: ignore[attr-defined]
    assert MapResult[int].__origin__ is MapResult  # type: ignore[attr-defined]
