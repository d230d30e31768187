"""The operations of a store as they go over the wire: what each takes, gives, and changes.

One table, read by both ends: the client encodes by it, the server checks by it.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["OPERATIONS", "Operation"]


class Operation(NamedTuple):
    """How an operation is written.

    Parameters
    ----------
    takes : str
        A letter for each argument after the container's number: ``k`` key, ``v`` value, ``V`` list
        of values, ``P`` list of (key, value) pairs, ``e`` encoded value or nothing, ``i`` integer,
        ``w`` value or nothing, ``s`` text, ``b`` bytes, ``t`` truth, ``o`` a number or nothing.
    gives : str
        ``-`` nothing, ``v`` value, ``V`` list of values, ``p`` (key, value), ``e`` encoded value or
        nothing, ``x`` as it is, ``c`` (ticket, value), ``n`` list of tuples, ``d`` dict.
    writes : bool
        Whether it changes anything.
    idempotent : bool
        Whether twice is the same as once, so that it may be repeated when its fate is unknown.
    anywhere : bool
        Whether it has no container as its first argument.
    promised : bool
        Whether a pipeline may give its result later.
    """

    takes: str = ""
    gives: str = "-"
    writes: bool = True
    idempotent: bool = False
    anywhere: bool = False
    promised: bool = False


def _read(takes: str, gives: str, *, promised: bool = False, anywhere: bool = False) -> Operation:
    return Operation(
        takes, gives, writes=False, idempotent=True, promised=promised, anywhere=anywhere
    )


OPERATIONS: dict[str, Operation] = {
    "create": Operation("iib", "x", anywhere=True),
    "named": Operation("siib", "x", anywhere=True, idempotent=True),
    "names": _read("", "n", anywhere=True),
    "remove_name": Operation("s", "x", anywhere=True),
    "statistics": _read("", "d", anywhere=True),
    "collect": Operation("", "x", anywhere=True, idempotent=True),
    "head": _read("", "x"),
    "hold": Operation(idempotent=True),
    "drop": Operation(),
    "length": _read("", "x"),
    "clear": Operation(idempotent=True, promised=True),
    "snapshot": _read("", "v"),
    "dict_get": _read("k", "v", promised=True),
    "dict_contains": _read("k", "x"),
    "dict_set": Operation("kv", idempotent=True, promised=True),
    "dict_delete": Operation("k", promised=True),
    "dict_setdefault": Operation("kv", "v", promised=True),
    "dict_pop": Operation("k", "v", promised=True),
    "dict_popitem": Operation("t", "p"),
    "dict_update": Operation("P", idempotent=True, promised=True),
    "dict_add": Operation("kvw", "v", promised=True),
    "dict_compare_and_set": Operation("kee", "x"),
    "dict_encoded": _read("k", "e"),
    "set_add": Operation("k", "x", idempotent=True),
    "set_discard": Operation("k", "x"),
    "list_get": _read("i", "v", promised=True),
    "list_set": Operation("iv", idempotent=True, promised=True),
    "list_append": Operation("v", promised=True),
    "list_appendleft": Operation("v", promised=True),
    "list_extend": Operation("Vt", promised=True),
    "list_insert": Operation("iv", promised=True),
    "list_delete": Operation("i", promised=True),
    "list_pop": Operation("i", "v", promised=True),
    "list_slice": _read("ii", "V"),
    "list_replace": Operation("iiV"),
    "list_add": Operation("iv", "v", promised=True),
    "list_compare_and_set": Operation("iee", "x"),
    "list_encoded": _read("i", "e"),
    "claim": Operation("", "c"),
    "settle": Operation("i", "x"),
    "give_back": Operation("i", "x"),
    "queue_shut": Operation("t", idempotent=True),
    "count_add": Operation("io", "x"),
    "bell": _read("", "x"),
}
