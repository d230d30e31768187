"""`Dask`: the engine, and which cluster it uses."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

from garrison import _os
from garrison._typing import Any
from garrison.engines._engine import Backend, Engine, PoolSettings
from garrison.errors import EngineUnavailable

__all__ = ["Dask", "Target"]


class Target(NamedTuple):
    """A Dask cluster, as a pool uses it.

    Attributes
    ----------
    address : str
        Its scheduler's.
    security : distributed.Security or None
        How the scheduler and the workers are reached.
    adaptive : bool
        Whether it grows and shrinks with the work that its scheduler knows of.
    connect_timeout, start_timeout : float
        Seconds to reach the scheduler, and until there is a worker.
    close : callable or None
        Ends the cluster, if it was started for this pool.
    """

    address: str
    security: Any
    adaptive: bool
    connect_timeout: float
    start_timeout: float
    close: Callable[[], object] | None = None


class Dask(Engine):
    """Runs pools on the workers of a Dask cluster.

    Each Dask worker has a local pool of garrison's, with as many processes as the Dask worker has
    threads. The cluster's other work goes on; a pool takes none of its threads.

    Parameters
    ----------
    where : str, distributed.Client or cluster, optional
        A scheduler's address (``tcp://``, ``tls://``, ...), a client or a cluster of the program,
        which goes on when the pool ends. By default a cluster inside of this process, without any
        port, which ends with the pool.
    security : distributed.Security, optional
        For ``tls://``. A client's or a cluster's own by default.
    adaptive : bool, optional
        Whether to tell the cluster how many workers the pool could use, by tasks that no worker can
        run, at most 200 workers. By default, only if `where` is a cluster that adapts.
    connect_timeout : float, optional
        Seconds to reach the scheduler.
    start_timeout : float, optional
        Seconds until there is a worker: longer for a queue of jobs.

    Raises
    ------
    EngineUnavailable
        If Dask is not installed.

    Examples
    --------
    >>> from garrison import Pool
    >>> from garrison.engines import Dask
    >>> with Pool(2, engine=Dask()) as pool:  # doctest: +SKIP
    ...     pool.map(abs, [-1, -2])
    [1, 2]
    """

    name = "dask"

    def __init__(
        self,
        where: Any = None,
        *,
        security: Any = None,
        adaptive: bool | None = None,
        connect_timeout: float = 5.0,
        start_timeout: float = 60.0,
    ) -> None:
        if find_spec("distributed") is None:
            raise EngineUnavailable(
                'Dask is not installed here; it comes with: pip install "garrison[dask]"'
            )
        self._where = where
        self._security = security
        self._adaptive = adaptive
        self._timeouts = (connect_timeout, start_timeout)

    def __repr__(self) -> str:
        return f"<Dask {'in this process' if self._where is None else self._where}>"

    def backend(self, settings: PoolSettings) -> Backend:
        """Return a backend over this cluster, not started."""
        from garrison.engines.cluster._backend import ClusterBackend
        from garrison.engines.dask._cluster import DaskCluster

        return ClusterBackend(DaskCluster(self.target, settings.processes), settings)

    def target(self, processes: int | None) -> Target:
        """Return the cluster of a pool; one inside of this process is started now."""
        where = self._where
        if where is None:
            return self._local(processes or _os.usable_cpus())
        if isinstance(where, str):
            return self._at(where, self._security, adapts=False)
        cluster = getattr(where, "cluster", where)
        # A client has both of its own; a cluster has no `scheduler` that is an address.
        address = getattr(where, "scheduler_address", None) or where.scheduler.address
        security = self._security or getattr(where, "security", None)
        return self._at(address, security, adapts=_adapts(cluster))

    def _at(self, address: str, security: Any, *, adapts: bool) -> Target:
        adaptive = adapts if self._adaptive is None else self._adaptive
        return Target(address, security, adaptive, *self._timeouts)

    def _local(self, processes: int) -> Target:
        from garrison.engines.dask._local import start_local_cluster

        cluster = start_local_cluster(processes)
        target = self._at(cluster.scheduler_address, None, adapts=False)
        return target._replace(close=cluster.close)


def _adapts(cluster: Any) -> bool:
    adaptive = getattr(cluster, "_adaptive", None)
    return getattr(adaptive, "periodic_callback", None) is not None
