"""Creates containers, with contents or with a name, in one step."""

from __future__ import annotations

import collections
import contextlib
from array import array
from collections.abc import Callable, Iterable

from garrison._typing import Any
from garrison.errors import WrongKind
from garrison.store import _json  # noqa: F401 - lets json write containers
from garrison.store._backend import KIND_NAMES, Kind, StoreBackend
from garrison.store._transaction import transaction
from garrison.store.containers._array import Array
from garrison.store.containers._base import Container
from garrison.store.containers._counter import Counter
from garrison.store.containers._deque import Deque
from garrison.store.containers._dict import Dict
from garrison.store.containers._list import List
from garrison.store.containers._namespace import Namespace
from garrison.store.containers._queue import JoinableQueue, Queue
from garrison.store.containers._set import Set
from garrison.store.containers._value import Value

__all__ = ["CONTAINER_TYPES", "create_container", "get_container"]

CONTAINER_TYPES: dict[int, type[Container]] = {
    kind._kind: kind
    for kind in (Dict, List, Set, Deque, Namespace, Value, Array, Queue, JoinableQueue, Counter)
}


def get_container(backend: StoreBackend, kind: int, c: int) -> Any:
    """Return the object for a container."""
    return CONTAINER_TYPES[kind](backend, c)


def create_container(
    backend: StoreBackend, kind: int, *args: Any, name: str | None = None, **kwargs: Any
) -> Any:
    """Return a new container with contents, or the one that has the name already.

    Parameters
    ----------
    backend
        The backend.
    kind : int
        A `Kind`.
    *args, **kwargs
        What the plain type is made from.
    name : str, optional
        The name of the container. The arguments are used if it is new.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As the plain type, or if the name belongs to a container of another kind.
    """
    limit, typecode, contents = _CONSTRUCTORS[kind](*args, **kwargs)
    # Without contents it is one step already.
    with transaction(backend) if contents else contextlib.nullcontext():
        if name is None:
            c, new = backend.create(kind, limit, typecode), True
        else:
            c, new = _named(backend, name, kind, limit, typecode)
        if new and contents:
            _fill(backend, kind, c, contents)
    return get_container(backend, kind, c)


def _named(
    backend: StoreBackend, name: str, kind: int, limit: int, typecode: bytes
) -> tuple[int, bool]:
    try:
        return backend.named(name, kind, limit, typecode)
    except WrongKind:
        taken = {known: of_kind for known, of_kind, _ in backend.names()}
        found, wanted = KIND_NAMES[taken[name]], KIND_NAMES[kind]
        msg = f"{name!r} is a {found} already, not a {wanted}; choose another name"
        raise WrongKind(msg) from None


def _fill(backend: StoreBackend, kind: int, c: int, contents: Any) -> None:
    if kind == Kind.SET:
        for member in contents:
            backend.set_add(c, member)
    elif kind in {Kind.DICT, Kind.NAMESPACE, Kind.COUNTER}:
        backend.dict_update(c, contents)
    else:
        backend.list_extend(c, contents)


Contents = tuple[int, bytes, list[Any] | dict[Any, Any]]
"""Limit, typecode, contents."""


def _pairs(*args: Any, **kwargs: Any) -> Contents:
    return -1, b"", dict(*args, **kwargs)


def _items(iterable: Iterable[Any] = (), /) -> Contents:
    return -1, b"", list(iterable)


def _deque(iterable: Iterable[Any] = (), maxlen: int | None = None) -> Contents:
    limit = collections.deque(maxlen=maxlen).maxlen  # checks it
    return -1 if limit is None else limit, b"", list(iterable)


def _attributes(**kwargs: Any) -> Contents:
    return -1, b"", kwargs


def _value(typecode: str, value: Any, lock: Any = True) -> Contents:  # noqa: ARG001 - the standard one
    return -1, str(typecode).encode(), [value]


def _array(typecode: str, sequence: Any = (), lock: Any = True) -> Contents:  # noqa: ARG001 - as above
    return -1, typecode.encode(), array(typecode, sequence).tolist()


def _queue(maxsize: int = 0) -> Contents:
    return maxsize, b"", []


def _counter(*args: Any, **kwargs: Any) -> Contents:
    return -1, b"", list(collections.Counter(*args, **kwargs).items())


_CONSTRUCTORS: dict[int, Callable[..., Contents]] = {
    Kind.DICT: _pairs,
    Kind.LIST: _items,
    Kind.SET: _items,
    Kind.DEQUE: _deque,
    Kind.NAMESPACE: _attributes,
    Kind.VALUE: _value,
    Kind.ARRAY: _array,
    Kind.QUEUE: _queue,
    Kind.JOINABLE_QUEUE: _queue,
    Kind.COUNTER: _counter,
}
