"""Encodes the arguments of a store's operations, and decodes the server's replies."""

from __future__ import annotations

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.manager._store_operations import Arg, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager._store_operations import Operation

__all__ = ["MISSING", "OperationCodec", "ValueCodec", "pairs_of"]

MISSING: Any = object()


def pairs_of(pairs: Any) -> list[tuple[Any, Any]]:
    """Return the pairs of a dict, or of a list of them."""
    return list(pairs.items()) if isinstance(pairs, dict) else pairs


class OperationCodec:
    """Encodes the arguments of one operation, and decodes its result."""

    __slots__ = ("count", "decode", "defaults", "encoders", "has_key", "has_result", "idempotent")

    def __init__(self, operation: Operation, values: ValueCodec) -> None:
        first = 0 if operation.no_container else 1
        self.count = first + len(operation.args)
        self.defaults = operation.defaults
        self.encoders = [
            (place, values.encoders[arg])
            for place, arg in enumerate(operation.args, first)
            if arg in values.encoders
        ]
        self.has_key = operation.args[:1] == (Arg.KEY,)
        self.has_result = operation.result is not Result.NONE
        self.idempotent = operation.idempotent
        self.decode = values.decoders[operation.result]

    def encode(self, args: tuple[Any, ...]) -> list[Any]:
        """Return the arguments, defaults included, as they are sent."""
        missing = self.count - len(args)
        encoded = [*args, *self.defaults[len(self.defaults) - missing :]] if missing else [*args]
        for place, encode in self.encoders:
            encoded[place] = encode(encoded[place])
        return encoded


class ValueCodec:
    """Encoders for each kind of argument, decoders for each kind of result."""

    def __init__(self, hooks: Any) -> None:
        encode_value, decode_value = _core.encode_value, _core.decode_value

        def key(obj: Any) -> list[bytes]:
            return list(_core.encode_key(obj, hooks))

        def encode(obj: Any) -> bytes:
            return encode_value(obj, hooks)

        def decode(data: bytes) -> Any:
            return decode_value(data, hooks)

        def decode_pair(pair: list[Any]) -> tuple[Any, Any]:
            key, value = pair  # a set has no values
            return decode(key), None if value is None else decode(value)

        self.decode, self.decode_pair = decode, decode_pair
        self.encoders: dict[Arg, Callable[[Any], Any]] = {
            Arg.KEY: key,
            Arg.VALUE: encode,
            Arg.OPTIONAL_VALUE: lambda value: None if value is None else encode(value),
            Arg.KEYS: lambda keys: [key(each) for each in keys],
            Arg.VALUES: lambda values: [encode(each) for each in values],
            Arg.PAIRS: lambda pairs: [[key(k), encode(v)] for k, v in pairs_of(pairs)],
        }
        self.decoders: dict[Result, Callable[[Any], Any]] = {
            Result.NONE: lambda _: None,
            Result.VALUE: decode,
            Result.VALUES: lambda values: [decode(each) for each in values],
            Result.PAIR: decode_pair,
            Result.CLAIM: lambda claim: (claim[0], decode(claim[1])),
            Result.TUPLES: lambda entries: [tuple(each) for each in entries],
            Result.DICT: dict,
            Result.PLAIN: lambda answer: tuple(answer) if type(answer) is list else answer,
        }
