"""In the place of dask-jobqueue: its clusters' calls, with workers of this machine as the jobs."""

from __future__ import annotations

from distributed import LocalCluster


class SLURMCluster(LocalCluster):  # type: ignore[misc]
    """Jobs that are workers of this machine."""

    def __init__(
        self, *, queue: str, cores: int, processes: int, memory: str, walltime: str
    ) -> None:
        assert all((queue, cores // processes, memory, walltime))
        super().__init__(n_workers=0, threads_per_worker=2, dashboard_address=None)

    def scale(self, n: int | None = None, jobs: int = 0) -> None:
        """Ask for jobs."""
        super().scale(min(n or jobs, 2))
