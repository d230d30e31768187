"""Dask: the cluster that a pool starts in its own process, and one of two worker processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
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


# In a process of its own: its workers hold a resource tracker, for whose end each test waits.
_PROGRAM = """
import distributed
if __name__ == "__main__":
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


@contextlib.contextmanager
def _local_cluster() -> Iterator[None]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        tempfile.NamedTemporaryFile("w", suffix=".py") as program,
        _offloading(),
    ):
        program.write(_PROGRAM)
        program.flush()
        with subprocess.Popen([sys.executable, program.name], **pipes) as process:
            _address.append(process.stdout.readline().strip())  # type: ignore[union-attr]
            try:
                yield
            finally:
                _address.clear()
                process.communicate("over\n")


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
