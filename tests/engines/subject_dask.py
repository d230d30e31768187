"""Dask: the cluster that a pool starts in its own process, and one of two worker processes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .subjects import Subject, missing_package

if TYPE_CHECKING:
    from collections.abc import Iterator

_MISSING = missing_package("distributed")
_LACKS = {"pids": "its workers' process numbers mean nothing on another machine"}
_address: list[str] = []


@contextlib.contextmanager
def _offloading() -> Iterator[None]:
    """Start the thread that Dask keeps until the interpreter ends."""
    import distributed

    distributed.utils._offload_executor.submit(int).result()
    yield


@contextlib.contextmanager
def _local_cluster() -> Iterator[None]:
    import distributed

    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None}
    with _offloading(), distributed.LocalCluster(n_workers=2, **options) as cluster:
        _address.append(cluster.scheduler_address)
        yield
        _address.clear()


SUBJECTS = [
    Subject("dask", "dask", _LACKS, running=_offloading, missing=_MISSING),
    Subject(
        "dask-cluster",
        "dask",
        _LACKS,
        make=lambda: _address[0],
        running=_local_cluster,
        missing=_MISSING,
    ),
]
