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

def dumps_plain(
    obj: object, rules: Rules | None = None, first: dict[type, Any] | None = None, /
) -> bytes | None:
    """Pickle an object made of scalars, tuples, lists and dicts only; None for every other.

    With `rules` (and `first`, reducers before all others) there may be records as well: objects of
    classes that go by name, and that do not say themselves how they are pickled, made or filled.

    Every pickler writes it in the same way, and no code of the user runs but by the rules.
    """

def dumps_scalars(items: list[Any], /) -> bytes | None:
    """Pickle a list, made of an array, of numbers, strings, bytes, bools and None.

    None if it has other items.
    """

def loads(data: Any, /, *, buffers: Any = None) -> Any:
    """As `pickle.loads`; fast for what `dumps_plain` has written."""

class PickledResult:
    """An item's result that is a failure, or that only `pickle` can load."""

    @property
    def succeeded(self) -> bool:
        """Whether the pickle is a result, not an exception."""

    @property
    def pickle(self) -> bytes:
        """The result, or what `encode_error` has made of the exception."""

def split(payload: Any) -> list[bytes]:
    """Take a payload of items apart: the pickle of each."""
