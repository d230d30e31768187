"""Shared memory: unnamed memory that is freed with its last user, and named blocks."""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING
from garrison.memory.handles import InheritedFd, SharedBlock

if TYPE_CHECKING:
    from garrison.memory._ndarray import ndarray
    from garrison.memory._share import Shared, share
    from garrison.memory.raw import FloatCode as FloatCode
    from garrison.memory.raw import IntCode as IntCode
    from garrison.memory.raw import RawArray, RawValue, copy

__all__ = [
    "InheritedFd",
    "RawArray",
    "RawValue",
    "Shared",
    "SharedBlock",
    "copy",
    "ndarray",
    "share",
]

_HOMES = {
    "_ndarray": ("ndarray",),
    "raw": ("RawArray", "RawValue", "copy"),
    "_share": ("Shared", "share"),
}
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, globals(), _HOMES)
