"""In the place of dask-kubernetes: its cluster's calls, with workers of this machine as pods."""

from __future__ import annotations

from distributed import LocalCluster


class KubeCluster(LocalCluster):  # type: ignore[misc]
    """Pods that are workers of this machine."""

    def __init__(self, *, name: str, image: str, n_workers: int) -> None:
        assert name
        assert image
        super().__init__(n_workers=min(n_workers, 2), threads_per_worker=1, dashboard_address=None)
