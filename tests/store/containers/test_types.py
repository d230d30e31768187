"""Type checkers see containers of the types that a program says; at run time nothing differs."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, MutableSequence, MutableSet
from multiprocessing import managers
from typing import TYPE_CHECKING, Any

import pytest

from garrison.store import Array, Counter, Deque, Dict, List, Queue, Set, Value

if TYPE_CHECKING:
    from typing_extensions import assert_type


def as_a_type_checker_sees_them(
    ages: Dict[str, int], names: List[str], last: Deque[bytes], seen: Set[int], jobs: Queue[str]
) -> None:
    """Checked by mypy; never called."""
    mapping: MutableMapping[str, int] = ages
    sequence: MutableSequence[str] = names
    members: MutableSet[int] = seen
    assert_type(ages["Ada"], int)
    assert_type(ages.get("Ada"), "int | None")
    assert_type(ages.pop("Ada", None), "int | None")
    assert_type(ages.copy(), "dict[str, int]")
    assert_type([*ages.items()], "list[tuple[str, int]]")
    assert_type(names[0], str)
    assert_type(names[:1], "list[str]")
    assert_type(names.update_with(0, str.upper), str)
    assert_type(last.popleft(), bytes)
    assert_type(seen.pop(), int)
    assert_type(jobs.get(), str)
    with jobs.claim() as job:
        assert_type(job, str)
    assert mapping
    assert sequence
    assert members


@pytest.mark.parametrize(
    ("container", "proxy"),
    [
        (Dict, managers.DictProxy),
        (List, managers.ListProxy),
        (Value, managers.ValueProxy),
        (Array, managers.ArrayProxy),  # type: ignore[attr-defined]
    ],
)
def test_containers_are_proxies_of_the_standard_library(container: Any, proxy: Any) -> None:
    assert issubclass(container, proxy)
    assert container[int].__origin__ is container


def test_containers_are_registered_with_abstract_types() -> None:
    assert issubclass(Dict, MutableMapping)
    assert issubclass(Counter, Mapping)
    assert issubclass(List, MutableSequence)
    assert issubclass(Deque, MutableSequence)
    assert issubclass(Set, MutableSet)
