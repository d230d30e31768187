"""Ray under the suite: where its tests are alone, with a cluster that all of them share."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import TYPE_CHECKING

from .ray_nodes import ALL_OF_SUITE, ray_nodes
from .subjects import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def _cluster() -> Iterator[None]:
    with ray_nodes(1, cpus=16) as nodes:
        ray = importlib.import_module("ray")
        os.environ["RAY_ADDRESS"] = nodes.address
        ray.init(log_to_driver=False, logging_level="error")
        try:
            yield
        finally:
            ray.shutdown()


SUBJECTS: list[Subject] = []
# Else Ray's threads would be there in the tests of all other engines: see `test_ray_suite`.
if ALL_OF_SUITE in os.environ:
    lacks = {"pids": "its workers are on nodes"}
    SUBJECTS.append(Subject("ray", "ray", lacks, running=_cluster, shares_pool=True))
