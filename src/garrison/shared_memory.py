"""The names of `multiprocessing.shared_memory`."""

from __future__ import annotations

from garrison import _standard
from garrison._typing import TYPE_CHECKING
from garrison.memory.shared_memory import ShareableList, SharedMemory

__all__ = ["ShareableList", "SharedMemory"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = _standard.mirror(__name__, globals())
