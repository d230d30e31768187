"""The two levels of a cluster, over agents that the program itself has: no cluster between."""

from __future__ import annotations

from .local_cluster import LocalEngine
from .subjects import Subject

SUBJECTS = [
    Subject(
        "local agents",
        "engines.local_cluster:LocalEngine",
        {
            "pids": "the driver knows the nodes, not their workers",
            "own_workers": "each of the two nodes has a worker, however many a pool asks for",
        },
        make=LocalEngine,
    )
]
