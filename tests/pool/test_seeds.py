"""Each worker has randomness of its own, and the pool's seed determines it."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import Pool

from . import tasks
from .tasks import Door

np = pytest.importorskip("numpy")


def draw(*_: object) -> tuple[float, float]:
    return random.random(), float(np.random.random())


def meet_and_draw(door: Door, pushes: bool) -> tuple[float, float]:
    """Draw in both workers: neither does both tasks."""
    tasks.meet(door, pushes)
    return draw()


def draws_of_both(pool: Pool, folder: Path, name: str = "door") -> set[tuple[float, float]]:
    door = Door(folder, name)
    return set(pool.starmap(meet_and_draw, [(door, True), (door, False)], chunksize=1))


def test_workers_differ_from_each_other_and_from_their_parent(context: Any, tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(1)
    with context.Pool(2) as pool:
        found = draws_of_both(pool, tmp_path)
    here = draw()
    assert len({first for first, _ in found} | {here[0]}) == 3
    assert len({second for _, second in found} | {here[1]}) == 3


def test_the_seed_of_the_pool_determines_those_of_its_workers(context: Any, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        with context.Pool(2, seed=42) as pool:
            found.append(draws_of_both(pool, tmp_path, name))
    assert found[0] == found[1]


def test_another_seed_gives_others(tmp_path: Path) -> None:
    with Pool(2, seed=42) as one, Pool(2, seed=43) as two:
        assert draws_of_both(one, tmp_path, "one").isdisjoint(draws_of_both(two, tmp_path, "two"))


def test_without_a_seed_each_pool_differs(tmp_path: Path) -> None:
    with Pool(2) as one, Pool(2) as two:
        assert one.seed != two.seed
        assert draws_of_both(one, tmp_path, "one").isdisjoint(draws_of_both(two, tmp_path, "two"))


def test_the_seed_of_a_pool_can_be_read_and_used_again(tmp_path: Path) -> None:
    # Under the other methods numpy seeds itself where it is imported, unless a seed was given.
    context = garrison.get_context("fork")
    with context.Pool(2) as one, context.Pool(2, seed=one.seed) as two:
        assert draws_of_both(one, tmp_path, "one") == draws_of_both(two, tmp_path, "two")


def test_a_worker_that_replaces_another_has_a_seed_of_its_own() -> None:
    with Pool(1, maxtasksperchild=1, seed=42) as pool:
        found = [pool.apply(draw) for _ in range(5)]
    assert len(set(found)) == 5
    with Pool(1, maxtasksperchild=1, seed=42) as pool:
        assert [pool.apply(draw) for _ in range(5)] == found


def test_the_parents_own_randomness_is_left_alone() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    with Pool(2, seed=1) as pool:
        pool.map(draw, range(10))
        assert random.random() == expected


def seed_is(value: int) -> None:
    random.seed(value)


def test_an_initializer_has_the_last_word() -> None:
    with Pool(1, seed_is, (5,), seed=1) as pool:
        first, _ = pool.apply(draw)
    assert first == random.Random(5).random()


SEEDED = """
import random, sys
import numpy as np
import garrison
random.seed(3)
np.random.seed(4)
def draw(_):
    return random.random(), float(np.random.random())
if __name__ == "__main__":
    with garrison.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.map(draw, [0]) == [draw(0)], pool.map(draw, [0])[0][1])
"""


def test_what_the_main_module_seeds_stays_seeded_under_spawn(tmp_path: Path) -> None:
    assert run_seeded(tmp_path, "spawn").startswith("True ")


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_program_that_seeds_numpy_gets_the_same_numbers_at_each_run(
    tmp_path: Path, method: str
) -> None:
    first = run_seeded(tmp_path, method)
    assert first.startswith("False ")
    assert run_seeded(tmp_path, method) == first


UNSEEDED = """
import sys
import numpy as np
import garrison
def loads_it(_):
    return "numpy.random" in sys.modules
def draw(_):
    return float(np.random.random())
if __name__ == "__main__":
    loaded = "numpy.random" in sys.modules
    with garrison.get_context(sys.argv[1]).Pool(1, maxtasksperchild=1) as pool:
        print(loaded or pool.apply(loads_it, (0,)) is False)
        print(len({pool.apply(draw, (0,)) for _ in range(3)}))
"""


def test_a_worker_of_a_fork_server_does_not_load_what_it_need_not_seed(tmp_path: Path) -> None:
    assert run_seeded(tmp_path, "forkserver", UNSEEDED) == "True\n3\n"


def run_seeded(folder: Path, method: str, text: str = SEEDED) -> str:
    program = folder / "program.py"
    program.write_text(text)
    command = [sys.executable, str(program), method]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
