"""How a store's operations are written for a server, and its answers are read."""

from __future__ import annotations

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager._store_operations import Operation

__all__ = ["MISSING", "Coding", "Plan", "nothing"]

MISSING: Any = object()

_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "create": (-1, b""),
    "named": (-1, b""),
    "dict_popitem": (True,),
    "dict_add": (None,),
    "list_extend": (False,),
    "list_pop": (-1,),
    "count_add": (None,),
}


class Plan:
    """How one engine writes an operation's arguments and reads its answer."""

    __slots__ = ("begin", "count", "defaults", "has_key", "idempotent", "name", "read", "writers")

    def __init__(self, name: str, operation: Operation, coding: Coding) -> None:
        self.name = name
        self.begin = 0 if operation.anywhere else 1
        self.count = len(operation.takes) + self.begin
        self.defaults = _DEFAULTS.get(name, ())
        self.writers = [coding.writers.get(letter) for letter in operation.takes]
        self.has_key = operation.takes[:1] == "k"
        self.idempotent = operation.idempotent
        self.read = coding.readers.get(operation.gives, _plain)

    def write(self, args: tuple[Any, ...]) -> list[Any]:
        """Return the arguments as they are sent."""
        missing = self.count - len(args)
        written = [*args, *self.defaults[len(self.defaults) - missing :]] if missing else [*args]
        for place, writer in enumerate(self.writers, self.begin):
            if writer is not None:
                written[place] = writer(written[place])
        return written


class Coding:
    """How arguments are written and answers are read, by the letters of the table."""

    def __init__(self, hooks: Any) -> None:
        encode, decode = _core.encode_value, _core.decode_value

        def key(value: Any) -> list[bytes]:
            return list(_core.encode_key(value, hooks))

        def written(value: Any) -> bytes:
            return encode(value, hooks)

        def read(data: bytes) -> Any:
            return decode(data, hooks)

        def read_pair(pair: list[Any]) -> tuple[Any, Any]:
            key, value = pair  # a set has no values
            return read(key), None if value is None else read(value)

        self.value, self.pair = read, read_pair
        self.writers: dict[str, Callable[[Any], Any]] = {
            "k": key,
            "v": written,
            "w": lambda value: None if value is None else written(value),
            "V": lambda values: [written(each) for each in values],
            "P": lambda pairs: [[key(k), written(v)] for k, v in pairs],
        }
        self.readers: dict[str, Callable[[Any], Any]] = {
            "-": nothing,
            "v": read,
            "V": lambda values: [read(each) for each in values],
            "p": self.pair,
            "n": lambda entries: [tuple(each) for each in entries],
            "d": dict,
            "c": lambda pair: (pair[0], read(pair[1])),
        }


def nothing(_: Any) -> None:
    """Read the answer of what has no result."""


def _plain(answer: Any) -> Any:
    return tuple(answer) if type(answer) is list else answer
