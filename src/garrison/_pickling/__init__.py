"""How objects travel between processes: one pickler, one pass, and what only it may pickle."""

from __future__ import annotations

from garrison._pickling._transfer import (
    Transferable,
    assert_transfer,
    reduce_for_transfer,
    register,
    transferring,
)

__all__ = ["Transferable", "assert_transfer", "reduce_for_transfer", "register", "transferring"]
