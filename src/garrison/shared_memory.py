"""The names of `multiprocessing.shared_memory`."""

from __future__ import annotations

from garrison import _standard
from garrison.memory.shared_memory import ShareableList, SharedMemory

__all__ = ["ShareableList", "SharedMemory"]

__getattr__, __dir__ = _standard.mirror(__name__, globals())
