"""What runs in a worker: its preparation, and a batch of tasks."""

from __future__ import annotations

import pickle
from collections.abc import Callable

from garrison._typing import Any

__all__ = ["run_batch"]


def run_batch(data: bytes, *buffers: Any) -> list[Any]:
    """Run a pickled batch and return the results of its tasks."""
    batch: Callable[[], list[Any]] = pickle.loads(data, buffers=buffers)  # noqa: S301 - written by the parent
    del data, buffers
    return batch()
