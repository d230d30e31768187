"""Whole dicts and lists that go into a Manager and come out again, in one call each."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import harness
from harness import BASELINE, SUBJECT, Goal, Metric, Values

Action = Callable[[], object]

KINDS: dict[str, Callable[[int], Any]] = {
    "ints": lambda number: number,
    "strings": lambda number: f"item number {number}",
    "tuples": lambda number: (number, f"item {number}"),
}
SIZES = (100, 20_000)
"""The standard library walks over a list item by item: 200,000 of them take it 6 s."""
NESTED = {f"user {number}": {"id": number, "name": f"user {number}"} for number in range(2_000)}


def of_values(manager: Any) -> dict[str, Action]:
    """Containers that are values of others."""
    outer, many = manager.dict(), list(range(100_000))

    def there_and_back() -> None:
        outer["value"] = many
        list(outer["value"])

    return {
        "a value of 100,000 ints: set and read": there_and_back,
        "list(range(100_000)): made and read": lambda: list(manager.list(range(100_000))),
        "update() with 2,000 dicts, again": lambda: outer.update(NESTED),
        "update() with 2,000 dicts, of an empty one": lambda: manager.dict().update(NESTED),
        "copy() of 2,000 dicts": outer.copy,
    }


def of_lists(manager: Any, items: list[Any]) -> dict[str, Action]:
    """What is done with a list as a whole."""
    shared, grown = manager.list(items), manager.list()

    def extended() -> None:
        grown.extend(items)
        grown[:] = []

    return {
        "list(items)": lambda: manager.list(items),
        "list(l)": lambda: list(shared),
        "l[:]": lambda: shared[:],
        "sorted(l)": lambda: sorted(shared),
        "extend, clear": extended,
    }


def of_dicts(manager: Any, items: list[Any]) -> dict[str, Action]:
    """What is done with a dict as a whole."""
    pairs = {f"key {number}": item for number, item in enumerate(items)}
    shared = manager.dict(pairs)
    return {
        "dict(pairs)": lambda: manager.dict(pairs),
        "update": lambda: shared.update(pairs),
        "dict(d)": lambda: dict(shared),
        "items()": shared.items,
        "d.copy()": shared.copy,
    }


def turn(peer: str, quick: bool) -> Values:
    library: Any = multiprocessing
    if peer == SUBJECT:
        import garrison

        library = garrison
    with library.Manager() as manager:
        values = measured("", of_values(manager))
        for size in SIZES[:1] if quick else SIZES:
            for kind, item in KINDS.items():
                items = [item(number) for number in range(size)]
                prefix = f"{size:,} {kind}: "
                values |= measured(prefix, of_lists(manager, items))
                values |= measured(prefix, of_dicts(manager, items))
    return values


def measured(prefix: str, actions: dict[str, Action]) -> Values:
    return {prefix + name: milliseconds(action) for name, action in actions.items()}


def milliseconds(action: Action) -> float:
    """The fastest of some calls, after one that is not counted: others use the processors too."""
    action()
    took: list[float] = []
    while len(took) < 3 or (sum(took) < 0.2 and len(took) < 100):
        begun = time.perf_counter()
        action()
        took.append(time.perf_counter() - begun)
    return 1000 * min(took)


def names() -> list[str]:
    nothing = Mock()
    of_items = [*of_lists(nothing, []), *of_dicts(nothing, [])]
    return [
        *of_values(nothing),
        *(f"{size:,} {kind}: {name}" for size in SIZES for kind in KINDS for name in of_items),
    ]


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="manager_bulk",
            claim="whole dicts and lists of a Manager",
            metrics=tuple(
                Metric(name, "ms", "lower", Goal("times", 1), Goal("times", 5)) for name in names()
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            rounds=3,
        )
    )
