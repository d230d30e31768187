"""How many workers go to which of Ray's nodes: decisions alone, without Ray."""

from __future__ import annotations

import pytest

from garrison.engines import Ray
from garrison.engines.ray._shares import Needs, Place, Plan, shares

CPU = Needs({"CPU": 1})


def place(key: str, cpus: float, **more: float) -> Place:
    return Place(key, f"host of {key}", {"CPU": cpus, **more})


def started(plan: Plan, places: list[Place], now: float = 0.0) -> dict[str, int]:
    return {place.key: workers for place, workers in plan.starts(places, now)}


@pytest.mark.parametrize(
    ("asked", "rooms", "expected"),
    [
        (None, {"a": 4, "b": 2}, {"a": 4, "b": 2}),
        (None, {"a": 0}, {}),
        (3, {"a": 4, "b": 2}, {"a": 2, "b": 1}),
        (6, {"a": 4, "b": 2}, {"a": 4, "b": 2}),
        (100, {"a": 4, "b": 2}, {"a": 4, "b": 2}),
        (2, {"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 1, "b": 1}),
        (1, {"a": 0, "b": 8}, {"b": 1}),
        (0, {"a": 4}, {}),
        (3, {}, {}),
    ],
)
def test_workers_are_spread_by_free_room(
    asked: int | None, rooms: dict[str, int], expected: dict[str, int]
) -> None:
    assert shares(asked, rooms) == expected


@pytest.mark.parametrize("asked", range(1, 40))
def test_shares_are_complete_and_fit(asked: int) -> None:
    rooms = {"a": 7, "b": 0, "c": 3, "d": 21, "e": 1}
    found = shares(asked, rooms)
    assert sum(found.values()) == min(asked, 32)
    assert all(found[key] <= rooms[key] for key in found)


def test_room_is_what_the_scarcest_resource_allows() -> None:
    needs = Needs({"CPU": 2, "GPU": 0.5, "licence": 1}, most=6)
    assert needs.room({"CPU": 64, "GPU": 2, "licence": 9}) == 4
    assert needs.room({"CPU": 64, "GPU": 8, "licence": 9}) == 6
    assert needs.room({"CPU": 64, "GPU": 8}) == 0
    assert needs.of(3) == {"CPU": 6, "GPU": 1.5, "licence": 3}


def test_nodes_that_join_get_what_is_missing() -> None:
    plan = Plan(5, CPU)
    assert started(plan, [place("a", 2), place("b", 1)]) == {"a": 2, "b": 1}
    assert plan.missing == 2
    assert started(plan, [place("a", 0), place("b", 0), place("c", 8)]) == {"c": 2}
    assert plan.missing == 0
    assert started(plan, [place("d", 8)]) == {}


def test_a_pool_of_any_size_takes_each_node_that_joins_once() -> None:
    plan = Plan(None, CPU)
    assert started(plan, [place("a", 2)]) == {"a": 2}
    assert started(plan, [place("a", 2), place("b", 4)]) == {"b": 4}
    assert plan.missing is None


def test_a_place_that_failed_is_left_out_for_a_while() -> None:
    plan = Plan(1, CPU)
    started(plan, [place("a", 1)])
    plan.ended("a", shun_until=30.0)
    assert started(plan, [place("a", 1)], now=29.0) == {}
    assert started(plan, [place("a", 1), place("b", 1)], now=29.5) == {"b": 1}
    plan.ended("b", shun_until=0.0)
    assert started(plan, [place("a", 1)], now=30.0) == {"a": 1}


def test_places_given_back_are_taken_again_only_for_more_tasks() -> None:
    plan = Plan(4, CPU)
    started(plan, [place("a", 2), place("b", 2)])
    plan.demanded(0)
    plan.gave_back("b")
    assert started(plan, [place("b", 2)]) == {}
    plan.demanded(3)
    assert started(plan, [place("b", 2)]) == {"b": 2}


def test_hints_grow_with_the_cluster_and_end_with_the_tasks() -> None:
    plan = Plan(None, CPU)
    started(plan, [place("a", 8)])
    assert plan.demanded(1_000_000) == 32
    assert plan.demanded(10) == 10
    assert plan.demanded(0) == 0
    assert Plan(4, CPU).demanded(100) == 4


@pytest.mark.parametrize(
    "wrong", [{"num_cpus": -1}, {"num_cpus": 0}, {"workers_per_node": 0}, {"num_gpus": -0.5}]
)
def test_resources_that_no_worker_can_have_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"has to be|positive"):
        Ray(**wrong)  # type: ignore[arg-type]


def test_repr_shows_what_was_asked_for() -> None:
    assert repr(Ray()) == "Ray()"
    shown = "Ray('ray://head:10001', num_cpus=2, resources={'disk': 1})"
    assert repr(Ray("ray://head:10001", num_cpus=2, resources={"disk": 1})) == shown
