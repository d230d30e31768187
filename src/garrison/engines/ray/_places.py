"""Where Ray has room: nodes, or the bundles of a placement group."""

from __future__ import annotations

import importlib

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.ray._shares import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from garrison.engines.ray._connection import Connection

__all__ = ["find_places", "free_resources", "strategy"]

ANSWER_S = 30.0
"""Seconds in which a cluster that is there says what is free."""


def find_places(connection: Connection, group: Any) -> list[Place]:
    """Return all places at which an agent may be."""
    nodes = {node["NodeID"]: node for node in connection.ray.nodes() if node["Alive"]}
    if group is not None:
        return _bundles(group, nodes)
    free = _free(connection)
    return [Place(key, _host(node), free.get(key, {})) for key, node in nodes.items()]


def _host(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"


def _free(connection: Connection) -> dict[str, dict[str, float]]:
    if not connection.is_client:
        return free_resources()
    # Only a process of the cluster can see it.
    ray = connection.ray
    task = ray.remote(num_cpus=0)(free_resources)
    return dict(ray.get(task.remote(), timeout=ANSWER_S))


def free_resources() -> dict[str, dict[str, float]]:
    """Return the resources of each node that nothing uses; Ray's own list of nodes has all."""
    state = importlib.import_module("ray._private.state")
    return dict(state.available_resources_per_node())


def _bundles(group: Any, nodes: Mapping[str, Mapping[str, Any]]) -> list[Place]:
    """Return the bundles that are placed: the group has their resources for itself."""
    table = importlib.import_module("ray.util").placement_group_table(group)
    found = []
    for index, key in table["bundles_to_node_id"].items():
        if key in nodes:
            host = f"{_host(nodes[key])}, bundle {index}"
            found.append(Place(f"{key}/{index}", host, table["bundles"][index], int(index)))
    return found


def strategy(place: Place, group: Any) -> Any:
    """Return Ray's scheduling strategy for a place: there, and nowhere else."""
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    if group is not None:
        return strategies.PlacementGroupSchedulingStrategy(group, place.bundle)
    return strategies.NodeAffinitySchedulingStrategy(place.key, soft=False)
