"""`imap` of a list in chunks: one pickle for a chunk, and an outcome for each item."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from garrison import Pool, WorkerDied
from garrison.pool import ThreadPool

from . import tasks
from .tasks import Tally

BOTH = pytest.mark.parametrize("name", ["imap", "imap_unordered"])


def outcomes(results: Any) -> list[Any]:
    found: list[Any] = []
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            return found
        except Exception as error:
            found.append(type(error))


def append_and_count(items: list[int]) -> int:
    items.append(1)
    return len(items)


def test_an_object_in_several_items_of_a_chunk_is_one_object() -> None:
    same: list[int] = []
    with Pool(1) as pool:
        assert list(pool.imap(append_and_count, [same] * 6, 3)) == [1, 2, 3, 1, 2, 3]
    assert same == []


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
@BOTH
def test_a_chunk_of_any_items(kind: Any, name: str) -> None:
    items = [1, "a", b"b", None, (1,), [2], {"x": 3}, {4}, Path("p"), "long" * 10_000] * 10
    with kind(2) as pool:
        results = list(getattr(pool, name)(tasks.identity, items, 7))
        assert sorted(map(repr, results)) == sorted(map(repr, items))


class DeadlyToLoad:
    """Kills the worker that unpickles it."""

    def __reduce__(self) -> Any:
        return _kill_self, ()


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class RefusesToLoad:
    """Cannot be unpickled."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise LookupError


@BOTH
@pytest.mark.parametrize(
    ("item", "error"), [(DeadlyToLoad(), WorkerDied), (RefusesToLoad(), LookupError)]
)
def test_an_item_that_cannot_be_loaded_costs_only_itself(
    tmp_path: Path, name: str, item: Any, error: type[Exception]
) -> None:
    tally = Tally(tmp_path)

    def mark(value: Any) -> Any:
        tally.add(str(value))
        return value

    with Pool(1) as pool:
        found = outcomes(getattr(pool, name)(mark, [0, 1, item, 3, 4, 5], 3))
    assert found.count(error) == 1
    assert sorted(each for each in found if each is not error) == [0, 1, 3, 4, 5]
    assert sorted(tally.marks()) == ["0", "1", "3", "4", "5"]


def die_at(tally: Tally, deadly: int, n: int) -> int:
    tally.add(str(n))
    if n == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@BOTH
@pytest.mark.parametrize("deadly", [0, 3, 9])
def test_a_death_costs_one_item_and_runs_none_twice(tmp_path: Path, name: str, deadly: int) -> None:
    tally = Tally(tmp_path)
    with Pool(1) as pool:
        results = getattr(pool, name)(lambda n: die_at(tally, deadly, n), range(20), 10)
        found = outcomes(results)
    assert found.count(WorkerDied) == 1
    assert sorted(each for each in found if each is not WorkerDied) == [
        n for n in range(20) if n != deadly
    ]
    assert sorted(map(int, tally.marks())) == list(range(20))


def test_the_message_names_the_item_at_work() -> None:
    with Pool(1) as pool:
        results = pool.imap(_kill_at_three, [{"n": n} for n in range(6)], 6)
        with pytest.raises(WorkerDied, match=r"\{'n': 3\}"):
            list(results)


def _kill_at_three(item: dict[str, int]) -> int:
    if item["n"] == 3:
        _kill_self()
    return item["n"]


def change_then_fail_once(tally: Tally, item: dict[str, int]) -> int:
    item["n"] += 100
    if tally.add(str(item["n"])) == 1:
        raise LookupError
    return item["n"]


def test_each_attempt_has_a_fresh_item(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    items = [{"n": n} for n in range(6)]
    with Pool(1, retries=1, retry_on=(LookupError,)) as pool:
        found = list(pool.imap(lambda item: change_then_fail_once(tally, item), items, 3))
    assert found == [n + 100 for n in range(6)]


def test_a_chunk_runs_again_after_a_death_if_it_has_retries(tmp_path: Path) -> None:
    tally = Tally(tmp_path)

    def die_once(item: dict[str, int]) -> int:
        if tally.add(str(item["n"])) == 1 and item["n"] == 2:
            _kill_self()
        return item["n"]

    with Pool(1, retries=1) as pool:
        assert list(pool.imap(die_once, [{"n": n} for n in range(6)], 6)) == list(range(6))
