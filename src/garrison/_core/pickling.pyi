"""The pass over an object that leaves the process."""

from collections.abc import Callable
from typing import Any

class Rules:
    """What a kind of transfer knows, for all of its picklers."""

    def __init__(
        self,
        registered: dict[type, Any],
        standard: dict[Any, Any],
        others: dict[type, Any],
        parts: dict[type, Any],
        begin: Callable[[dict[Any, Any]], Callable[[Any], Any]] | None,
    ) -> None: ...
    def reducer(self, first: dict[type, Any] | None = None) -> Reducer:
        """What one pass over an object asks. `first` has reducers before all others."""

class Reducer:
    """One pass over an object."""

    def reduce(self, obj: Any, /) -> Any:
        """What `reducer_override` returns for an object."""

def is_plain(obj: object, /) -> bool:
    """Whether an object is made of few scalars, tuples, lists and dicts only.

    Every pickler writes it in the same way, and no code of the user runs.
    """

def split(payload: Any) -> list[tuple[bool, bytes]]:
    """Take a payload apart, of items or of results with an outcome each.

    (succeeded, pickle) for each.
    """

def pack(pickles: list[bytes]) -> bytes:
    """Put pickles one after the other, as `split` takes them apart."""
