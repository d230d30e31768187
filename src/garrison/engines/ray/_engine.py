"""The engine: what a program says about its cluster."""

from __future__ import annotations

from collections.abc import Mapping

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines._engine import Engine, PoolSettings
from garrison.engines.cluster._backend import ClusterBackend
from garrison.engines.ray._cluster import RayCluster
from garrison.engines.ray._shares import Needs

if TYPE_CHECKING:
    from garrison.pool.backends import Backend

__all__ = ["Ray"]


class Ray(Engine):
    """Runs the tasks of pools on the nodes of a Ray cluster.

    There is one actor on each node, which has the resources of all workers of that node; its
    workers are processes of a local pool. Ray's CUDA_VISIBLE_DEVICES has all GPUs of the node's
    workers.

    Parameters
    ----------
    address : str, optional
        ``"ray://host:10001"``, a Ray Client server; ``"host:6379"``, the head of a cluster of which
        this machine is a node; ``"auto"``, the cluster of this machine; ``"local"``, a new one. By
        default the program's own, if it has called ``ray.init``; else what RAY_ADDRESS says; else a
        new one on this machine, which ends with the pool.
    num_cpus, num_gpus : float
        Resources of a worker. It sees its own share of a node's GPUs (``CUDA_VISIBLE_DEVICES``).
    resources : mapping of str to float, optional
        Custom resources of a worker: ``{"licence": 1}``.
    workers_per_node : int, optional
        Workers of a node, at most.
    placement_group : PlacementGroup, optional
        Where agents are: one in each bundle that has room for a worker.
    runtime_env : mapping, optional
        Ray's ``runtime_env`` of the actors: packages and files that nodes need.
    timeout : float
        Seconds to wait for room for a worker: longer for a cluster that starts machines on demand.
    idle_timeout : float, optional
        Seconds without any task after which nodes but one are given back, for a cluster that ends
        machines that are not needed. More tasks bring them back.

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> from garrison.engines import Ray
    >>> engine = Ray("ray://head:10001", num_gpus=0.5, workers_per_node=4)
    >>> engine
    Ray('ray://head:10001', num_gpus=0.5, workers_per_node=4)
    """

    name: str = "ray"

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: float = 1,
        num_gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        workers_per_node: int | None = None,
        placement_group: Any = None,
        runtime_env: Mapping[str, Any] | None = None,
        timeout: float = 30.0,
        idle_timeout: float | None = None,
    ) -> None:
        worker = {"CPU": num_cpus, "GPU": num_gpus, **(resources or {})}
        if min(worker.values()) < 0 or not max(worker.values()) > 0:
            raise ValueError(f"a worker takes positive resources, not {worker}")
        if workers_per_node is not None and workers_per_node < 1:
            raise ValueError(f"workers_per_node has to be at least 1, not {workers_per_node}")
        self.address: str | None = address
        self.needs: Needs = Needs(
            {name: each for name, each in worker.items() if each}, workers_per_node
        )
        self.placement_group: Any = placement_group
        self.runtime_env: Mapping[str, Any] | None = runtime_env
        self.timeout: float = timeout
        self.idle_timeout: float | None = idle_timeout
        given = {
            "num_cpus": (num_cpus, 1),
            "num_gpus": (num_gpus, 0),
            "resources": (resources, None),
            "workers_per_node": (workers_per_node, None),
            "timeout": (timeout, 30.0),
            "idle_timeout": (idle_timeout, None),
        }
        self._shown = [
            f"{name}={value}" for name, (value, usual) in given.items() if value != usual
        ]

    def __repr__(self) -> str:
        address = [] if self.address is None else [repr(self.address)]
        return f"Ray({', '.join([*address, *self._shown])})"

    def backend(self, settings: PoolSettings) -> Backend:
        """Return a backend over a cluster that is not connected yet."""
        return ClusterBackend(RayCluster(self, settings.processes), settings)
