"""The scheduler of clusters: its decisions, alone and in the simulation."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from garrison.engines.cluster._scheduler import HORIZON_S, MAX_BYTES, MAX_GIVES, Scheduler

from .simulation import Simulation, World


def scheduler(*workers: int) -> Scheduler:
    made = Scheduler()
    for number, each in enumerate(workers):
        made.joined(f"n{number}", each)
    return made


def give(made: Scheduler, waiting: int, first: int = 0, size: int = 0) -> dict[str, list[int]]:
    """Give what the scheduler says; return the tasks' numbers by node."""
    found: dict[str, list[int]] = {}
    for node, count in made.shares(waiting):
        numbers = list(range(first, first + count))
        first += count
        made.gave(node, [(number, f"task {number}", size) for number in numbers])
        found[node.name] = numbers
    return found


def test_one_task_for_each_worker_comes_first() -> None:
    made = scheduler(2, 6)
    assert {name: len(tasks) for name, tasks in give(made, 8).items()} == {"n0": 2, "n1": 6}


def test_a_node_gets_no_more_than_its_share_of_what_is_left() -> None:
    made = scheduler(1, 1)
    made.nodes["n0"].rate = made.nodes["n1"].rate = 1e6
    assert {name: len(tasks) for name, tasks in give(made, 100).items()} == {"n0": 25, "n1": 19}


def test_of_long_tasks_none_waits_behind_another() -> None:
    made = scheduler(4)
    made.nodes["n0"].rate = 4.0  # of a second each
    assert len(give(made, 1000)["n0"]) == 4


def test_of_short_tasks_as_many_as_end_within_the_horizon() -> None:
    made = scheduler(4)
    made.nodes["n0"].rate = 4000.0  # of a millisecond each
    (count,) = [len(tasks) for tasks in give(made, 10_000).values()]
    assert 4000 * HORIZON_S <= count <= 4000 * HORIZON_S * 1.2


def test_so_many_messages_are_on_their_way() -> None:
    made = scheduler(100)
    for _ in range(MAX_GIVES):
        assert give(made, 1)
    assert give(made, 1) == {}
    made.arrived("n0")
    assert give(made, 1)


def test_large_arguments_fill_a_node() -> None:
    made = scheduler(2)
    made.nodes["n0"].rate = 1e6
    assert len(give(made, 1, size=MAX_BYTES + 1)["n0"]) == 1
    assert len(give(made, 1000)["n0"]) == 1


def test_what_a_lost_node_had_is_returned_once() -> None:
    made = scheduler(2, 2)
    given = give(made, 4)
    assert made.left("n0") == [f"task {number}" for number in given["n0"]]
    assert made.left("n0") is None
    assert made.ended("n0", given["n0"], 0.0) == [None, None]
    assert made.ended("n1", [*given["n1"], 99], 0.0) == [
        *(f"task {number}" for number in given["n1"]),
        None,
    ]


def test_idle_workers_get_what_others_have_not_begun() -> None:
    made = scheduler(1, 1)
    made.nodes["n0"].rate = 1e6
    made.gave(made.nodes["n0"], [(n, f"task {n}", 0) for n in range(9)])
    made.arrived("n0")
    assert made.recalls(waiting=1) == []
    ((node, count),) = made.recalls(waiting=0)
    assert (node.name, count) == ("n0", 1)
    assert made.recalls(waiting=0) == []
    assert made.returned("n0", [8]) == ["task 8"]
    assert made.returned("gone", [1]) == []


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("seconds", "tasks"), [(lambda rng: 0.0, 5_000), (lambda rng: rng.expovariate(20), 2_000)]
)
def test_nothing_is_lost_and_nothing_comes_twice(
    seed: int, seconds: Callable[[Random], float], tasks: int
) -> None:
    world = World(seed, 10, 4, tasks, seconds, stragglers=0.2, deaths=4, joins=3, retries=9)
    outcome = Simulation(world).run()
    assert (outcome.results, outcome.lost, outcome.doubled) == (tasks, 0, 0)


def test_without_retries_what_a_lost_node_had_is_told_and_all_else_has_a_result() -> None:
    outcome = Simulation(World(3, 10, 4, 2_000, deaths=4, joins=0, retries=0)).run()
    assert outcome.lost == outcome.charged > 0
    assert outcome.results == 2_000 - outcome.lost
    # What a node may have at once: its workers' tasks, and a message's worth of others.
    assert outcome.charged <= 4 * 3 * 4


@pytest.mark.watchdog(120)
def test_ten_thousand_workers(record_property: Any) -> None:
    outcome = Simulation(World(seed=1)).run()
    record_property("simulation", str(outcome))
    assert (outcome.results, outcome.lost, outcome.doubled) == (500_000, 0, 0)
    assert outcome.wall_s < 1.15 * outcome.ideal_s
