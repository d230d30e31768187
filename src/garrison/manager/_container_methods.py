"""The methods of `SyncManager` that make containers."""

from __future__ import annotations

import collections

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager._remote_errors import refusing
from garrison.store import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import overload

    from _typeshed import SupportsKeysAndGetItem
    from typing_extensions import TypeVar

    from garrison import store as containers

    K = TypeVar("K")
    V = TypeVar("V")
    T = TypeVar("T", default=Any)

__all__ = ["ContainerMethods"]


class ContainerMethods:
    """Makes containers in the manager's store, or finds those that have a name."""

    if TYPE_CHECKING:

        @property
        def store(self) -> containers.SharedStore:
            """The store behind the containers."""

    def _make(self, kind: int, *args: Any, name: str | None = None) -> Any:
        return self.store.make(kind, *args, name=name)

    if TYPE_CHECKING:

        @overload
        def dict(
            self, pairs: SupportsKeysAndGetItem[K, V] | Iterable[tuple[K, V]], /
        ) -> containers.Dict[K, V]: ...
        @overload
        def dict(self, /, **items: Any) -> containers.Dict[str, Any]: ...
        @overload
        def dict(self, /, *args: Any, **items: Any) -> containers.Dict[Any, Any]: ...

    @refusing
    def dict(self, /, *args: Any, **items: Any) -> Any:
        """Return a shared dict: ``dict(...)`` as the plain one, or ``dict("name", ...)``.

        A name always returns the same dict. The other arguments are the contents of a new one.

        Returns
        -------
        garrison.store.Dict
            A `MutableMapping`, each of whose methods is one step for all processes.

        Raises
        ------
        garrison.managers.RemoteError
            If no dict can be made of the arguments.
        garrison.errors.WrongKind
            If the name is that of another kind of container.
        garrison.errors.StoreFull
            If the store has no room.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     stock = manager.dict("stock", apples=3)
        ...     stock["pears"] = 5
        ...     print(manager.dict("stock"))
        {'apples': 3, 'pears': 5}
        """
        name, rest = _split_name(args)
        return self._make(Kind.DICT, dict(*rest, **items), name=name)

    @refusing
    def list(self, sequence: Iterable[T] = (), /, *, name: str | None = None) -> containers.List[T]:
        """Return a shared list; a name always returns the same one.

        Parameters
        ----------
        sequence : iterable
            The items of a new list.
        name : str, optional
            A name always returns the same list; without it, a new one is made.

        Raises
        ------
        garrison.managers.RemoteError, garrison.errors.WrongKind, garrison.errors.StoreFull
            As for `dict`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     log = manager.list(["opened"])
        ...     log.append("sold an apple")
        ...     print(log[-1], len(log))
        sold an apple 2
        """
        made: containers.List[T] = self._make(Kind.LIST, sequence, name=name)
        return made

    @refusing
    def set(self, iterable: Iterable[T] = (), /, *, name: str | None = None) -> containers.Set[T]:
        """Return a shared set; a name always returns the same one.

        Parameters
        ----------
        iterable : iterable
            The members of a new set.
        name : str, optional
            A name always returns the same set; without it, a new one is made.

        Raises
        ------
        garrison.managers.RemoteError, garrison.errors.WrongKind, garrison.errors.StoreFull
            As for `dict`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     seen = manager.set([1])
        ...     seen.add(2)
        ...     print(2 in seen, len(seen))
        True 2
        """
        made: containers.Set[T] = self._make(Kind.SET, iterable, name=name)
        return made

    @refusing
    def deque(
        self, iterable: Iterable[T] = (), maxlen: int | None = None, *, name: str | None = None
    ) -> containers.Deque[T]:
        """Return a shared deque; a name always returns the same one.

        Parameters
        ----------
        iterable : iterable
            The items of a new deque.
        maxlen : int, optional
            How many items a new deque holds at most: one more at an end drops one at the other end.
        name : str, optional
            A name always returns the same deque; without it, a new one is made.

        Raises
        ------
        garrison.managers.RemoteError, garrison.errors.WrongKind, garrison.errors.StoreFull
            As for `dict`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     latest = manager.deque([1, 2], maxlen=2)
        ...     latest.append(3)
        ...     print(list(latest))
        [2, 3]
        """
        made: containers.Deque[T] = self._make(Kind.DEQUE, iterable, maxlen, name=name)
        return made

    @refusing
    def Counter(self, /, *args: Any, **counts: Any) -> containers.Counter[Any]:  # noqa: N802 - as collections.Counter
        """Return shared counters: as `collections.Counter`, or ``Counter("name", ...)``.

        A name always returns the same counters. The other arguments are the counts of new ones.

        Raises
        ------
        garrison.managers.RemoteError, garrison.errors.WrongKind, garrison.errors.StoreFull
            As for `dict`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     words = manager.Counter(["to", "be", "to"])
        ...     print(words.add("to"), words.most_common(1))
        3 [('to', 3)]
        """
        name, rest = _split_name(args)
        made: containers.Counter[Any] = self._make(
            Kind.COUNTER, collections.Counter(*rest, **counts), name=name
        )
        return made

    @refusing
    def Namespace(  # noqa: N802 - the standard name
        self, name: str | None = None, /, **attributes: Any
    ) -> containers.Namespace:
        """Return an object with shared attributes; ``Namespace("name", ...)`` names it.

        Parameters
        ----------
        name : str, optional
            A name always returns the same namespace; without it, a new one is made.
        **attributes
            Its attributes; of a named one those that are not there yet.

        Raises
        ------
        garrison.errors.WrongKind, garrison.errors.StoreFull
            As for `dict`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     settings = manager.Namespace(retries=2)
        ...     settings.retries += 1
        ...     print(settings.retries)
        3
        """
        made: containers.Namespace = self._make(Kind.NAMESPACE, name=name)
        for attribute, value in attributes.items():
            if name is None or not hasattr(made, attribute):
                setattr(made, attribute, value)
        return made

    @refusing
    def Value(  # noqa: N802 - the standard name
        self,
        typecode: Any,
        value: T = 0,  # type: ignore[assignment] # of any type, if it is not said
        lock: Any = True,
        *,
        name: str | None = None,
    ) -> containers.Value[T]:
        """Return one shared value of any type.

        Parameters
        ----------
        typecode : str or type
            Stored, not checked: it is there for the standard library's sake.
        value
            The value of a new one.
        lock
            Accepted for the standard library's sake.
        name : str, optional
            A name always returns the same value; without it, a new one is made.

        Raises
        ------
        garrison.errors.WrongKind, garrison.errors.StoreFull
            As for `dict`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     total = manager.Value("i", 40)
        ...     total.value += 1  # two steps; total.add(1) is one
        ...     print(total.value)
        41
        """
        made: containers.Value[T] = self._make(Kind.VALUE, typecode, value, lock, name=name)
        return made

    @refusing
    def Array(  # noqa: N802 - the standard name
        self, typecode: str, sequence: Iterable[Any], lock: Any = True, *, name: str | None = None
    ) -> containers.Array:
        """Return a shared array of numbers of one type.

        Parameters
        ----------
        typecode : str
            The type of the items, one of the codes of the module `array`.
        sequence : iterable
            The items of a new array.
        lock
            Accepted for the standard library's sake.
        name : str, optional
            A name always returns the same array; without it, a new one is made.

        Raises
        ------
        garrison.managers.RemoteError, garrison.errors.WrongKind, garrison.errors.StoreFull
            As for `dict`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     sums = manager.Array("d", [0.5, 1.5])
        ...     print(sum(sums))
        2.0
        """
        made: containers.Array = self._make(Kind.ARRAY, typecode, sequence, lock, name=name)
        return made

    @refusing
    def Queue(  # noqa: N802 - the standard name
        self, maxsize: int | str = 0, size: int = 0
    ) -> containers.Queue[Any]:
        """Return a shared queue: ``Queue(maxsize)``, or ``Queue("name", maxsize)``.

        Parameters
        ----------
        maxsize : int or str
            The most items in the queue, 0 for any number; or its name, which always returns the
            same queue.
        size : int
            After a name: how many items it can hold.

        Raises
        ------
        garrison.managers.RemoteError, garrison.errors.WrongKind, garrison.errors.StoreFull
            As for `dict`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     manager.Queue("orders").put("tea")
        ...     print(manager.Queue("orders").get(timeout=10))
        tea
        """
        made: containers.Queue[Any] = self._queue(Kind.QUEUE, maxsize, size)
        return made

    @refusing
    def JoinableQueue(  # noqa: N802 - the standard name
        self, maxsize: int | str = 0, size: int = 0
    ) -> containers.JoinableQueue[Any]:
        """Return a shared queue that counts unfinished items; parameters as for `Queue`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     jobs = manager.JoinableQueue()
        ...     jobs.put(1)
        ...     print(jobs.get())
        ...     jobs.task_done()
        ...     jobs.join()
        1
        """
        made: containers.JoinableQueue[Any] = self._queue(Kind.JOINABLE_QUEUE, maxsize, size)
        return made

    def _queue(self, kind: int, maxsize: int | str, size: int) -> Any:
        name, limit = (maxsize, size) if isinstance(maxsize, str) else (None, maxsize)
        return self._make(kind, limit, name=name)


def _split_name(args: tuple[Any, ...]) -> tuple[str | None, tuple[Any, ...]]:
    """Separate a name, the first argument, from the rest."""
    if args and isinstance(args[0], str):
        return args[0], args[1:]
    return None, args
