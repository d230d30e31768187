"""A function that asks for the type of a shared object's content gets the content."""

from __future__ import annotations

from typing import Any, Optional, Protocol, TypedDict

import garrison
from garrison import Shared, share
from garrison.pool import ThreadPool


def total(table: dict[str, int], first: int = 0) -> int:
    return sum(table.values()) + first


def maybe(table: Optional[list[int]]) -> str:  # noqa: UP045 - both spellings count
    return type(table).__name__


def kept(table: Shared[dict[str, int]]) -> str:
    return type(table).__name__


def either(table: Shared[dict[str, int]] | dict[str, int]) -> str:
    return type(table).__name__


def untyped(table):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - that is the point
    return type(table).__name__


def anything(table: Any) -> str:
    return type(table).__name__


def other(table: str) -> str:
    return type(table).__name__


class Named(Protocol):
    def keys(self) -> Any: ...


class Row(TypedDict):
    a: int


def by_protocol(table: Named) -> str:
    return type(table).__name__


def by_typed_dict(table: Row) -> str:
    return type(table).__name__


def many(
    first: Any, *others: dict[str, int], named: Any = None, **more: dict[str, int]
) -> list[str]:
    return [type(each).__name__ for each in (first, *others, named, *more.values())]


def by_name(first: Any, *others: Any, table: dict[str, int]) -> list[str]:
    return [type(each).__name__ for each in (first, *others, table)]


def with_state(state: Any, table: dict[str, int] | None = None) -> Any:
    return len(state) + sum((table or {}).values())


def check(pool: Any) -> None:
    with share({"a": 1, "b": 2}) as table, share([1]) as numbers:
        assert pool.apply(total, (table, 10)) == 13
        assert pool.apply(total, (), {"table": table, "first": 1}) == 4
        assert pool.map(total, [table, {"c": 7}, table], 1) == [3, 7, 3]
        assert pool.map(total, [table, table]) == [3, 3]
        assert pool.starmap(total, [(table, 1), (table, 2)]) == [4, 5]
        assert list(pool.imap(total, [table] * 3)) == [3, 3, 3]
        assert list(pool.imap(total, [table] * 3, 2)) == [3, 3, 3]
        skipping = pool.options(on_error="skip")
        assert skipping.starmap(total, [(table, 1), (table, "x")]) == [4]
        assert pool.apply(maybe, (numbers,)) == "list"
        assert pool.apply(maybe, (None,)) == "NoneType"
        assert pool.apply(by_typed_dict, (table,)) == "dict"
        named = {"named": table, "other": table}
        seen = pool.apply(many, (table, table, table, numbers), named)
        assert seen == ["Shared", "dict", "dict", "Shared", "Shared", "dict"]
        seen = pool.apply(by_name, (table, table, table, table), {"table": table})
        assert seen == ["Shared", "Shared", "Shared", "Shared", "dict"]
        for function in (kept, either, untyped, anything, other, by_protocol):
            assert pool.apply(function, (table,)) == "Shared"


def test_content_is_seen_where_its_type_is_asked_for(context: Any) -> None:
    with context.Pool(1) as pool:
        check(pool)


def test_pools_of_this_process_do_the_same() -> None:
    with ThreadPool(1) as threads, garrison.Pool(engine="serial") as serial:
        check(threads)
        check(serial)


def test_it_goes_with_state_and_retries() -> None:
    with share({"a": 1}) as table, garrison.Pool(1, list, ((1, 2),), pass_state=True) as pool:
        assert pool.apply(with_state, (table,)) == 3
        again = pool.options(retries=1, retry_on=ValueError)
        assert again.map(with_state, [table]) == [3]
