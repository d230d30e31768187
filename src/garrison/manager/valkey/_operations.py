"""What each operation of a `StoreBackend` sends to its script, and how its reply is read.

Each function takes the encoders and the operation's arguments. It returns the name of the script,
its arguments, a function for the reply, and the key or index that a `KeyError` names.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from garrison._typing import Any
from garrison.manager.valkey._values import Values

__all__ = ["MISSING", "OPERATIONS", "Request", "pairs_of"]

MISSING: Any = object()
FARTHEST = 1 << 52
"""Beyond every index; the server's numbers are exact up to here."""
Request = tuple[str, tuple[Any, ...], Callable[[Any], Any], Any]
Operation = Callable[..., Request]


def _nothing(_: Any) -> None:
    return None


def _index(i: Any) -> int:
    place = operator.index(i)
    if not -(2**63) <= place < 2**63:
        raise OverflowError("Python int too large to convert to C long")
    return min(max(place, -FARTHEST), FARTHEST)


def pairs_of(pairs: Any) -> list[tuple[Any, Any]]:
    """Return the pairs of a dict, or of a list of them."""
    return list(pairs.items()) if isinstance(pairs, dict) else pairs


def _required(v: Values, key: Any) -> Callable[[Any], Any]:
    def decode(reply: Any) -> Any:
        if reply is None:
            raise KeyError(key)
        return v.decode(reply)

    return decode


# -- containers -----------------------------------------------------------------------------------


def named(_: Values, name: str, kind: int, limit: int = -1, typecode: bytes = b"") -> Request:
    def found(reply: Any) -> tuple[int, bool]:
        return int(reply[0]), bool(reply[1])

    return "named", (int(kind), limit, typecode, name.encode()), found, MISSING


def names(v: Values) -> Request:
    def found(reply: list[bytes]) -> list[tuple[str, int, int]]:
        known = []
        try:
            for name, place in zip(reply[::2], reply[1::2], strict=True):
                kind, number = place.split()
                known.append((name.decode(), int(kind), int(number)))
        except ValueError as error:
            raise v.corrupt(f"a name: {error}") from error
        return sorted(known)

    return "names", (), found, MISSING


def remove_name(_: Values, name: str) -> Request:
    return "remove_name", (name.encode(),), bool, MISSING


def metadata(_: Values, c: int) -> Request:
    return "metadata", (c,), tuple, MISSING


def length(_: Values, c: int) -> Request:
    return "length", (c,), int, MISSING


def clear(_: Values, c: int) -> Request:
    return "clear", (c,), _nothing, MISSING


def snapshot(v: Values, c: int) -> Request:
    return "snapshot", (c,), v.decode, MISSING


def change_count(_: Values, c: int) -> Request:
    return "change_count", (c,), int, MISSING


# -- mappings -------------------------------------------------------------------------------------


def dict_get(v: Values, c: int, key: Any) -> Request:
    return "dict_get", (c, v.key(key)[0]), _required(v, key), key


def dict_get_or(v: Values, c: int, key: Any, default: Any) -> Request:
    def decode(reply: Any) -> Any:
        return default if reply is None else v.decode(reply)

    return "dict_get", (c, v.key(key)[0]), decode, key


def dict_encoded(v: Values, c: int, key: Any) -> Request:
    return "dict_get", (c, v.key(key)[0]), lambda reply: reply, key


def dict_encoded_many(v: Values, c: int, keys: list[Any]) -> Request:
    return "dict_encoded_many", (c, *(v.key(key)[0] for key in keys)), list, MISSING


def dict_contains(v: Values, c: int, key: Any) -> Request:
    return "dict_contains", (c, v.key(key)[0]), bool, key


def dict_set(v: Values, c: int, key: Any, value: Any) -> Request:
    return "dict_set", (c, *v.key(key), v.value(value)), _nothing, key


def dict_delete(v: Values, c: int, key: Any) -> Request:
    return "dict_delete", (c, v.key(key)[0]), _nothing, key


def dict_setdefault(v: Values, c: int, key: Any, value: Any) -> Request:
    return "dict_setdefault", (c, *v.key(key), v.value(value)), v.decode, key


def dict_pop(v: Values, c: int, key: Any) -> Request:
    return "dict_pop", (c, v.key(key)[0]), v.decode, key


def dict_popitem(v: Values, c: int, last: bool = True) -> Request:
    def pair(reply: Any) -> tuple[Any, Any]:
        canonical, original, value = reply
        key = v.decode_key(canonical, original)
        return key, None if value == 1 else v.decode(value)  # a set has no values

    return "dict_popitem", (c, int(last)), pair, MISSING


def dict_update(v: Values, c: int, pairs: Any) -> Request:
    pairs = pairs_of(pairs)
    keys = [v.key(key) for key, _ in pairs]
    args = (c, len(keys), *(key[0] for key in keys), *(v.value(value) for _, value in pairs))
    originals = [key[1] for key in keys]
    return "dict_update", (*args, *originals) if any(originals) else args, _nothing, MISSING


def dict_add(v: Values, c: int, key: Any, delta: Any, initial: Any = None) -> Request:
    start = b"" if initial is None else v.number(initial)
    return "dict_add", (c, *v.key(key), v.number(delta), start), v.decode, key


def dict_compare_and_set(
    v: Values, c: int, key: Any, expected: bytes | None, value: bytes | None
) -> Request:
    old = b"" if expected is None else b"1" + expected
    new = b"" if value is None else b"1" + v.sendable(value)
    return "dict_compare_and_set", (c, *v.key(key), old, new), bool, key


def set_add(v: Values, c: int, key: Any) -> Request:
    return "set_add", (c, *v.key(key)), bool, key


def set_discard(v: Values, c: int, key: Any) -> Request:
    return "set_discard", (c, v.key(key)[0]), bool, key


# -- sequences ------------------------------------------------------------------------------------


def list_get(v: Values, c: int, i: int) -> Request:
    return "list_get", (c, _index(i)), v.decode, MISSING


def list_encoded(_: Values, c: int, i: int) -> Request:
    return "list_get", (c, _index(i)), bytes, MISSING


def list_set(v: Values, c: int, i: int, value: Any) -> Request:
    return "list_set", (c, _index(i), v.value(value)), _nothing, MISSING


def list_append(v: Values, c: int, value: Any) -> Request:
    return "list_extend", (c, 0, v.value(value)), _nothing, MISSING


def list_appendleft(v: Values, c: int, value: Any) -> Request:
    return "list_extend", (c, 1, v.value(value)), _nothing, MISSING


def list_extend(v: Values, c: int, values: list[Any], left: bool = False) -> Request:
    return "list_extend", (c, int(left), *map(v.value, values)), _nothing, MISSING


def list_insert(v: Values, c: int, i: int, value: Any) -> Request:
    return "list_insert", (c, _index(i), v.value(value)), _nothing, MISSING


def list_delete(_: Values, c: int, i: int) -> Request:
    return "list_delete", (c, _index(i)), _nothing, MISSING


def list_pop(v: Values, c: int, i: int = -1) -> Request:
    return "list_pop", (c, _index(i)), v.decode, MISSING


def list_slice(v: Values, c: int, start: int, stop: int) -> Request:
    def items(reply: list[bytes]) -> list[Any]:
        return [v.decode(each) for each in reply]

    return "list_slice", (c, _index(start), _index(stop)), items, MISSING


def list_replace(v: Values, c: int, start: int, stop: int, values: list[Any]) -> Request:
    bounds = _index(start), _index(stop)
    return "list_replace", (c, *bounds, *map(v.value, values)), _nothing, MISSING


def list_add(v: Values, c: int, i: int, delta: Any) -> Request:
    return "list_add", (c, _index(i), v.number(delta)), v.decode, MISSING


def list_compare_and_set(v: Values, c: int, i: int, expected: bytes, value: bytes) -> Request:
    return "list_compare_and_set", (c, _index(i), expected, v.sendable(value)), bool, MISSING


def claim_first(v: Values, c: int) -> Request:
    def claim(reply: Any) -> tuple[int, Any]:
        return int(reply[0]), v.decode(reply[1])

    return "claim_first", (c, v.lease_ms), claim, MISSING


def ack_claim(_: Values, c: int, ticket: int) -> Request:
    return "ack_claim", (c, ticket), bool, MISSING


def return_claim(_: Values, c: int, ticket: int) -> Request:
    return "return_claim", (c, ticket), bool, MISSING


def shut_down_queue(_: Values, c: int, immediate: bool) -> Request:
    return "shut_down_queue", (c, int(immediate)), _nothing, MISSING


def counter_add(_: Values, c: int, delta: int, floor: int | None = None) -> Request:
    return "counter_add", (c, delta, "" if floor is None else floor), int, MISSING


OPERATIONS: dict[str, Operation] = {
    each.__name__: each
    for each in (
        *(named, names, remove_name, metadata, length, clear, snapshot, change_count),
        *(dict_get, dict_get_or, dict_encoded, dict_encoded_many, dict_contains, dict_set),
        *(dict_delete, dict_setdefault, dict_pop, dict_popitem, dict_update, dict_add),
        *(dict_compare_and_set, set_add, set_discard, list_get, list_encoded, list_set),
        *(list_append, list_appendleft, list_extend, list_insert, list_delete, list_pop),
        *(list_slice, list_replace, list_add, list_compare_and_set, claim_first, ack_claim),
        *(return_claim, shut_down_queue, counter_add),
    )
}
