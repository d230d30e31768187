"""What the benchmarks of locks have in common."""

from __future__ import annotations

import importlib
from typing import Any

from harness import BASELINE, SUBJECT

PEERS = (SUBJECT, BASELINE)


def module_of(peer: str) -> Any:
    """The module that has the locks."""
    return importlib.import_module(peer)
