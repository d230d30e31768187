"""The operations of a store as they go over the network: arguments, defaults, results, errors.

Both ends read this table. The client encodes arguments and decodes results by it; the server checks
and decodes arguments by it. The methods themselves are those of `garrison.store.StoreBackend`.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from garrison._typing import Any
from garrison.errors import ContainerGone, ShutDown, StoreFull, TransactionFailed, WrongKind

__all__ = ["ERRORS", "OPERATIONS", "Arg", "Operation", "Result"]


class Arg(Enum):
    """What an argument is, and so how it is encoded."""

    KEY = "a key"
    VALUE = "a value"
    OPTIONAL_VALUE = "a value or None"
    KEYS = "a list of keys"
    VALUES = "a list of values"
    PAIRS = "a list of (key, value)"
    ENCODED = "an encoded value or None"
    NUMBER = "an integer"
    OPTIONAL_NUMBER = "an integer or None"
    TEXT = "a string"
    BYTES = "bytes"
    FLAG = "a bool"


class Result(Enum):
    """What an operation returns, and so how that is decoded."""

    NONE = "nothing"
    VALUE = "a value"
    VALUES = "a list of values"
    PAIR = "(key, value)"
    CLAIM = "(ticket, value)"
    TUPLES = "a list of tuples"
    DICT = "a dict"
    PLAIN = "numbers, bytes or a tuple of them, as they are"


class Operation(NamedTuple):
    """How one operation is sent.

    Parameters
    ----------
    args : tuple of Arg
        The arguments after the container's number.
    result : Result
        What it returns.
    defaults : tuple
        The defaults of the last arguments.
    writes : bool
        Whether it changes anything.
    idempotent : bool
        Whether twice is the same as once. Such a request is repeated if its connection breaks.
    no_container : bool
        Whether it works on the whole store: it has no container's number.
    pipelined : bool
        Whether a pipeline may return a `PipelinedResult` for it.
    for_client : bool
        Whether it changes the references of the client, not those of one connection.
    one_way : bool
        Whether it is done even if no client waits for a reply.
    """

    args: tuple[Arg, ...] = ()
    result: Result = Result.NONE
    defaults: tuple[Any, ...] = ()
    writes: bool = True
    idempotent: bool = False
    no_container: bool = False
    pipelined: bool = False
    for_client: bool = False
    one_way: bool = False

    @property
    def is_for_readers(self) -> bool:
        """Whether a client may ask for it whose key only reads.

        Its references are its own, so it takes and releases them.
        """
        return not self.writes or (self.for_client and self.idempotent) or self.one_way


def _read(
    *args: Arg, result: Result, pipelined: bool = False, no_container: bool = False
) -> Operation:
    return Operation(
        args,
        result,
        writes=False,
        idempotent=True,
        pipelined=pipelined,
        no_container=no_container,
    )


_K, _V, _N = Arg.KEY, Arg.VALUE, Arg.NUMBER

_ON_THE_STORE = {
    "create": Operation(
        (_N, _N, Arg.BYTES), Result.PLAIN, (-1, b""), no_container=True, for_client=True
    ),
    "named": Operation(
        (Arg.TEXT, _N, _N, Arg.BYTES), Result.PLAIN, (-1, b""), no_container=True, idempotent=True
    ),
    "names": _read(result=Result.TUPLES, no_container=True),
    "remove_name": Operation((Arg.TEXT,), Result.PLAIN, no_container=True),
    "statistics": _read(result=Result.DICT, no_container=True),
    "collect_cycles": Operation((), Result.PLAIN, no_container=True, idempotent=True),
}

_ON_CONTAINERS = {
    "metadata": _read(result=Result.PLAIN),
    "acquire_ref": Operation(idempotent=True, for_client=True),
    "release_ref": Operation(for_client=True, one_way=True),
    "length": _read(result=Result.PLAIN),
    "clear": Operation(idempotent=True, pipelined=True),
    "snapshot": _read(result=Result.VALUE),
    "change_count": _read(result=Result.PLAIN),
}

_ON_MAPPINGS = {
    "dict_get": _read(_K, result=Result.VALUE, pipelined=True),
    "dict_contains": _read(_K, result=Result.PLAIN),
    "dict_set": Operation((_K, _V), idempotent=True, pipelined=True),
    "dict_delete": Operation((_K,), pipelined=True),
    "dict_setdefault": Operation((_K, _V), Result.VALUE, pipelined=True),
    "dict_pop": Operation((_K,), Result.VALUE, pipelined=True),
    "dict_popitem": Operation((Arg.FLAG,), Result.PAIR, (True,)),
    "dict_update": Operation((Arg.PAIRS,), idempotent=True, pipelined=True),
    "dict_add": Operation((_K, _V, Arg.OPTIONAL_VALUE), Result.VALUE, (None,), pipelined=True),
    "dict_encoded": _read(_K, result=Result.PLAIN),
    "dict_encoded_many": _read(Arg.KEYS, result=Result.PLAIN),
    "dict_compare_and_set": Operation((_K, Arg.ENCODED, Arg.ENCODED), Result.PLAIN),
    "set_add": Operation((_K,), Result.PLAIN, idempotent=True),
    "set_discard": Operation((_K,), Result.PLAIN),
}

_ON_SEQUENCES = {
    "list_get": _read(_N, result=Result.VALUE, pipelined=True),
    "list_set": Operation((_N, _V), idempotent=True, pipelined=True),
    "list_append": Operation((_V,), pipelined=True),
    "list_appendleft": Operation((_V,), pipelined=True),
    "list_extend": Operation((Arg.VALUES, Arg.FLAG), defaults=(False,), pipelined=True),
    "list_insert": Operation((_N, _V), pipelined=True),
    "list_delete": Operation((_N,), pipelined=True),
    "list_pop": Operation((_N,), Result.VALUE, (-1,), pipelined=True),
    "list_slice": _read(_N, _N, result=Result.VALUES),
    "list_replace": Operation((_N, _N, Arg.VALUES)),
    "list_add": Operation((_N, _V), Result.VALUE, pipelined=True),
    "list_encoded": _read(_N, result=Result.PLAIN),
    "list_compare_and_set": Operation((_N, Arg.ENCODED, Arg.ENCODED), Result.PLAIN),
    "claim_first": Operation((), Result.CLAIM),
    "ack_claim": Operation((_N,), Result.PLAIN),
    "return_claim": Operation((_N,), Result.PLAIN),
    "shut_down_queue": Operation((Arg.FLAG,), idempotent=True),
    "counter_add": Operation((_N, Arg.OPTIONAL_NUMBER), Result.PLAIN, (None,)),
}

OPERATIONS: dict[str, Operation] = {
    **_ON_THE_STORE,
    **_ON_CONTAINERS,
    **_ON_MAPPINGS,
    **_ON_SEQUENCES,
}

ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        *(KeyError, IndexError, ContainerGone, WrongKind, StoreFull, TransactionFailed),
        *(TimeoutError, PermissionError, TypeError, ValueError, LookupError, ShutDown),
    )
}
"""What an operation may raise, by the name on the network; the first that fits is sent."""
