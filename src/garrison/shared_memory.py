"""The names of `multiprocessing.shared_memory`."""

from __future__ import annotations

from garrison.memory.shared_memory import ShareableList, SharedMemory

__all__ = ["ShareableList", "SharedMemory"]
