"""Names for annotations, which nothing needs at run time.

The standard library's pool does without `typing`. To load that module, and `re` with it, would take
a tenth of what a worker takes to start under spawn.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any, ClassVar, NoReturn, TypeAlias
else:
    Any = ClassVar = NoReturn = TypeAlias = object

__all__ = ["TYPE_CHECKING", "Any", "ClassVar", "NoReturn", "TypeAlias"]
