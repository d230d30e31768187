"""`Dict`: a dict that processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TypeVar, cast, overload

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any, TypedBase
from garrison.store._backend import Kind, RemoteStoreBackend, StoreBackend
from garrison.store._transaction import single_step
from garrison.store.containers._base import MISSING, Container, ContainerRepr
from garrison.store.containers._views import Items, Keys

__all__ = ["Dict"]


K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

if TYPE_CHECKING:
    from multiprocessing.managers import DictProxy as MappingBase
else:
    MappingBase = TypedBase(managers.DictProxy)


class Dict(Container, MappingBase[K, V]):
    """A dict that processes share: ``manager.dict()``. Nested containers are shared too.

    Every method is one atomic step, in-place operators too. Iteration walks over a snapshot,
    so no change disturbs it. Keys are equal as in a dict (``1``, ``1.0`` and ``True`` are
    one key) and keep their order. A dict, list, set or deque that is stored becomes a container of
    its own: ``d["a"] = {}`` and then ``d["a"]["b"] = 1`` is not lost. What `pop` returns is plain.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     stock = manager.dict(apples=3, by_city={})
    ...     stock.add("apples", 2)
    ...     stock["by_city"]["Oslo"] = 1
    ...     print(stock)
    5
    {'apples': 5, 'by_city': {'Oslo': 1}}

    Notes
    -----
    Keys of your own classes are equal if their pickles are: their ``__eq__`` is not called.
    """

    __slots__ = ()
    __module__ = "garrison.store"
    _kind = Kind.DICT.value
    _proxy_name = "DictProxy"
    _typeid = "dict"
    _recursive_repr = "{...}"
    if TYPE_CHECKING:

        def __hash__(self) -> int: ...
    else:
        __hash__ = Container.__hash__

    # --- One key ------------------------------------------------------------------------------

    def __getitem__(self, key: K) -> V:
        return self._backend.dict_get(self._container_id, key)  # type: ignore[no-any-return]

    def __setitem__(self, key: K, value: V) -> None:
        self._backend.dict_set(self._container_id, key, value)

    def __delitem__(self, key: K) -> None:
        self._backend.dict_delete(self._container_id, key)

    def __contains__(self, key: object) -> bool:
        return self._backend.dict_contains(self._container_id, key)

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | D, /) -> V | D: ...
    def get(self, key: Any, default: Any = None, /) -> Any:
        """Return the value of a key, or `default`."""
        return self._backend.dict_get_or(self._container_id, key, default)

    @overload
    def setdefault(self, key: K, /) -> V | None: ...
    @overload
    def setdefault(self, key: K, default: V, /) -> V: ...
    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        """Return the value of a key, which is `default` from now on if there was none."""
        return self._backend.dict_setdefault(self._container_id, key, default)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, default: V | D, /) -> V | D: ...
    def pop(self, key: Any, default: Any = MISSING, /) -> Any:
        """Remove a key and return its value; a nested container comes as a plain copy.

        Raises
        ------
        KeyError
            If there is no such key and no default.
        """
        try:
            return self._backend.dict_pop(self._container_id, key)
        except KeyError:
            if default is MISSING:
                raise
            return default

    def popitem(self, *, last: bool = True) -> tuple[K, V]:
        """Remove and return the newest pair, or the oldest with ``last=False``.

        Raises
        ------
        KeyError
            If the dict is empty.
        """
        try:
            return self._backend.dict_popitem(self._container_id, last)
        except KeyError:
            raise KeyError("popitem(): dictionary is empty") from None

    def add(self, key: Any, delta: Any = 1, initial: Any = None) -> Any:
        """Add to a number, and return the sum.

        Parameters
        ----------
        key
            Whose value is an `int` or a `float`.
        delta : int or float
            What is added.
        initial : int or float, optional
            What a missing key has.

        Raises
        ------
        KeyError
            If there is no such key and no `initial`.
        TypeError
            If one of the two is no number.
        """
        return self._backend.dict_add(self._container_id, key, delta, initial)

    def update_with(self, key: K, fn: Callable[[V], V], default: V = MISSING) -> V:
        """Replace a value by what `fn` returns for it, as one step; return the new value.

        Other writers wait meanwhile, so `fn` should be short. Over a network `fn` is called again
        if another writer came first.

        Parameters
        ----------
        key
            The key.
        fn : callable
            Is called with the present value, returns the next one. If it raises, nothing changes.
        default
            What `fn` is called with if there is no such key.

        Raises
        ------
        KeyError
            If there is no such key and no default.
        """
        backend, c = self._backend, self._container_id
        if getattr(backend, "optimistic", False) and not backend.in_transaction:
            new = _update_optimistically(cast("RemoteStoreBackend", backend), c, key, fn, default)
        else:
            new = _update_in_transaction(backend, c, key, fn, default)
        return cast("V", new)

    # --- All of them --------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._backend.length(self._container_id)

    def __iter__(self) -> Iterator[K]:
        return iter(self._backend.scan(self._container_id, "keys"))

    def __reversed__(self) -> Iterator[K]:
        return iter(list(self._backend.scan(self._container_id, "keys", reverse=True)))

    def keys(self) -> Keys[K]:  # type: ignore[override]
        """Return a list of the keys, with the operators of sets."""
        return Keys(self._backend.dict_entries(self._container_id, "keys"))

    def values(self) -> list[V]:  # type: ignore[override]
        """Return a list of the values."""
        return self._backend.dict_entries(self._container_id, "values")

    def items(self) -> Items[tuple[K, V]]:  # type: ignore[override]
        """Return a list of the pairs, with the operators of sets."""
        return Items(self._backend.dict_entries(self._container_id, "items"))

    def clear(self) -> None:
        """Remove everything."""
        self._backend.clear(self._container_id)

    def update(self, other: Any = (), /, **kwargs: Any) -> None:
        """Set the pairs of a mapping, an iterable or keywords, all at once."""
        pairs = other if type(other) is dict and not kwargs else dict(other, **kwargs)
        self._backend.dict_update(self._container_id, pairs)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Return the values of those of `keys` that there are, as they are at one moment.

        On this machine it is one search after the other in the order of the store, over a network
        it is one request.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     stock = manager.dict()
        ...     stock.set_many({"apples": 3, "pears": 5})
        ...     print(stock.get_many(["pears", "plums"]))
        {'pears': 5}
        """
        wanted = list(keys)
        found = self._backend.dict_get_many(self._container_id, wanted, MISSING)
        pairs = zip(wanted, found, strict=True)
        return {key: value for key, value in pairs if value is not MISSING}

    def set_many(self, pairs: Mapping[K, V] | Iterable[tuple[K, V]]) -> None:
        """Set many keys at once, as `update` does: the counterpart of `get_many`."""
        self.update(pairs)

    def copy(self) -> dict[K, V]:
        """Return a plain dict; nested containers are plain as well."""
        plain: dict[K, V] = self._getvalue()
        return plain

    def _plain(self) -> dict[K, V]:
        return dict(_items(self))

    @staticmethod
    def fromkeys(iterable: Iterable[Any], value: Any = None, /) -> dict[Any, Any]:
        """Return a plain dict with keys from `iterable`, all with the same value."""
        return dict.fromkeys(iterable, value)

    # --- Operators ----------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if self._same_container(other):
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and self._plain() == _plain(other)

    def __or__(self, other: Any) -> dict[Any, Any]:
        return self._plain() | _plain(other) if isinstance(other, PLAIN) else NotImplemented

    def __ror__(self, other: Any) -> dict[Any, Any]:
        return _plain(other) | self._plain() if isinstance(other, PLAIN) else NotImplemented

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def _repr_items(self, shown: ContainerRepr) -> str:
        return f"{{{shown.entries(self, 'items')}}}"


PLAIN = (dict, Dict)

if not TYPE_CHECKING:
    MutableMapping.register(Dict)


def _items(container: Dict[Any, Any]) -> list[Any]:
    return container._backend.dict_entries(container._container_id, "items")


def _plain(mapping: Any) -> dict[Any, Any]:
    return dict(_items(mapping)) if isinstance(mapping, Dict) else dict(mapping)


def _update_in_transaction(
    backend: StoreBackend, c: int, key: Any, fn: Callable[[Any], Any], default: Any
) -> Any:
    with single_step(backend):
        old = backend.dict_get_or(c, key, default)
        if old is MISSING:
            raise KeyError(key)
        new = fn(old)
        if new is not old or not isinstance(new, Container):
            backend.dict_set(c, key, new)
    return new


def _update_optimistically(
    backend: RemoteStoreBackend, c: int, key: Any, fn: Callable[[Any], Any], default: Any
) -> Any:
    """As `_update_in_transaction`, without a transaction: repeated if another writer came first."""
    while True:
        found = backend.dict_encoded(c, key)
        if found is None and default is MISSING:
            raise KeyError(key)
        old = default if found is None else backend.decode(found)
        if isinstance(old, Container):  # its contents may change while it stays the same value
            return _update_in_transaction(backend, c, key, fn, default)
        new = fn(old)
        if backend.dict_compare_and_set(c, key, found, backend.encode(new)):
            return new
