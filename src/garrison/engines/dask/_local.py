"""A Dask cluster inside of this process: a scheduler and a worker that open no port.

`distributed.LocalCluster` has the same, but each of its servers listens for HTTP, and its other
kind, of processes, listens for commands of whoever reaches the port.
"""

from __future__ import annotations

import logging
import warnings

from distributed import Scheduler, SpecCluster, Worker
from distributed.utils import get_ip

from garrison._typing import Any

__all__ = ["start_local_cluster"]

_UNUSED = "127.0.0.1:0"
"""Where a version of Dask listens that does not ask `start_http_server`."""


class _Portless:
    """A server without HTTP."""

    def start_http_server(self, *_arguments: Any, **_options: Any) -> None:
        """Open no port."""


class _LocalScheduler(_Portless, Scheduler):  # type: ignore[misc]
    pass


class _LocalWorker(_Portless, Worker):  # type: ignore[misc]
    pass


def start_local_cluster(threads: int) -> SpecCluster:
    """Return a cluster of one worker. No task of a pool runs in this process."""
    with warnings.catch_warnings():
        # Dask names its servers by this machine's address, also if there is none.
        warnings.simplefilter("ignore", RuntimeWarning)
        get_ip()
    common = {"protocol": "inproc://", "dashboard": False, "dashboard_address": _UNUSED}
    worker = {"nthreads": threads, "memory_limit": 0, **common}
    return SpecCluster(
        workers={0: {"cls": _LocalWorker, "options": worker}},
        scheduler={"cls": _LocalScheduler, "options": common},
        silence_logs=logging.WARNING,
    )
