"""What a script's refusals mean: the errors of the plain types, and garrison's."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import (
    ContainerGone,
    GarrisonError,
    ManagerLost,
    ShutDown,
    TransactionFailed,
    WrongKind,
)
from garrison.manager.valkey._operations import MISSING
from garrison.store import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.valkey._errors import ServerRefused
    from garrison.manager.valkey._values import Values

__all__ = ["Emptied", "Held", "Inexact", "Large", "Slow", "refusal_error"]

_NAMES = {
    Kind.DICT: "a dict",
    Kind.LIST: "a list",
    Kind.SET: "a set",
    Kind.DEQUE: "a deque",
    Kind.NAMESPACE: "a namespace",
    Kind.VALUE: "a value",
    Kind.ARRAY: "an array",
    Kind.QUEUE: "a queue",
    Kind.JOINABLE_QUEUE: "a queue",
    Kind.COUNTER: "a counter",
}
_INDEX = {
    "get": "list index out of range",
    "set": "list assignment index out of range",
    "pop": "pop index out of range",
    "full": "deque already at its maximum size",
}


class Held(GarrisonError):
    """Another client has a transaction open. For garrison itself.

    Parameters
    ----------
    fence : str
        The transaction.
    left_ms : int
        Milliseconds that its lease lasts unless it is renewed.
    """

    def __init__(self, fence: str, left_ms: int) -> None:
        super().__init__(fence, left_ms)
        self.fence, self.left_ms = fence, left_ms


class Large(GarrisonError):
    """A container that is not copied in one script. For garrison itself.

    Parameters
    ----------
    kind, limit : int
        Its kind, and the ``maxlen`` of a deque or -1.
    """

    def __init__(self, kind: str, limit: str) -> None:
        super().__init__(kind, limit)
        self.kind, self.limit = int(kind), int(limit)


class Emptied(GarrisonError):
    """The server has lost the store. For garrison itself."""


class Slow(GarrisonError):
    """A transaction is open, so the full script has to be run. For garrison itself."""


class Inexact(GarrisonError):
    """The server's numbers are too small for a sum. For garrison itself."""


def refusal_error(values: Values, refusal: ServerRefused, args: Any, key: Any) -> Exception:
    """Return the exception for an error that a script has raised.

    Parameters
    ----------
    values
        The encoders of the operation.
    refusal
        The reply.
    args
        The operation's arguments: first the container, if it has one.
    key
        The key that a `KeyError` names.
    """
    if refusal.code != "GARRISON":
        return values.corrupt(str(refusal))
    what, *about = refusal.text.split(" script: ")[0].split()
    if what == "GONE":
        return _gone(values, about[0], args)
    if what == "MISSING":
        return KeyError() if key is MISSING else KeyError(key)
    return _ERRORS[what](*about)


def _gone(values: Values, number: str, args: Any) -> Exception:
    if not args or str(args[0]) != number:
        return values.corrupt(f"container {number} is missing, to which another one refers")
    return ContainerGone(f"container {number} does not exist, or no longer")


def _index_text(what: str, kind: str = "0") -> str:
    if what == "empty":
        if int(kind) == Kind.DEQUE:
            return "pop from an empty deque"
        is_queue = int(kind) in {Kind.QUEUE, Kind.JOINABLE_QUEUE}
        return "the queue is empty" if is_queue else "pop from empty list"
    if int(kind) == Kind.DEQUE and what != "pop":
        return "deque index out of range"
    return _INDEX[what]


def _wrong_kind(kind: str) -> WrongKind:
    return WrongKind(f"this is {_NAMES[Kind(int(kind))]}, which cannot do that")


def _empty(kind: str) -> KeyError:
    of_set = int(kind) == Kind.SET
    return KeyError("pop from an empty set" if of_set else "popitem(): dictionary is empty")


_ERRORS: dict[str, Callable[..., Exception]] = {
    "INDEX": lambda *about: IndexError(_index_text(*about)),
    "HELD": lambda fence, left_ms: Held(fence, int(float(left_ms))),
    "WRONGKIND": _wrong_kind,
    "EMPTY": _empty,
    "NOTARGET": lambda c: ValueError(f"a reference to container {c}, which does not exist"),
    "SHUT": ShutDown,
    "INEXACT": Inexact,
    "NONUMBER": lambda: TypeError(
        "only int and float can be added to; use a transaction for values of other types"
    ),
    "FLOOR": lambda: ValueError("the count would be below its floor"),
    "DEEP": lambda: ValueError("containers more than 1000 deep"),
    "MALFORMED": lambda: ValueError("no value that may be stored"),
    "LOST": lambda: TransactionFailed(
        "nothing of this transaction was done: its lease was over before its end, for this process "
        "was paused or cut off, and others have gone on"
    ),
    "STALE": lambda: ManagerLost("a request came late, after others of its thread"),
    "EMPTIED": Emptied,
    "LARGE": Large,
    "SLOW": Slow,
}
"""What each word of `fail` in a script means."""
