"""Names for annotations, without any use at run time.

The import of `typing`, and of `re` with it, would take a tenth of a worker's start under spawn.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any, ClassVar, NoReturn, TypeAlias
else:
    Any = ClassVar = NoReturn = TypeAlias = object

__all__ = ["TYPE_CHECKING", "Any", "ClassVar", "NoReturn", "TypeAlias", "TypedBase"]


class TypedBase:
    """A base class under a subscript: its type parameters are for type checkers only.

    ``class Dict(Container, TypedBase(DictProxy)[K, V])`` is a subclass of `DictProxy`. Type
    checkers are shown a generic class in its place.
    """

    def __init__(self, base: type) -> None:
        self._base = base

    def __getitem__(self, _: Any) -> type:
        return self._base
