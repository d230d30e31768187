"""The names of `multiprocessing.context`: contexts whose pools, locks and queues are garrison's."""

from __future__ import annotations

import multiprocessing.context
import multiprocessing.popen_fork  # not found later by who has given up privileges
import sys

from garrison import _standard
from garrison._typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import ctypes
    import multiprocessing.context as _theirs
    from collections.abc import Callable, Collection, Iterable
    from ctypes import _SimpleCData
    from multiprocessing import synchronize
    from multiprocessing.context import (
        AuthenticationError,
        BufferTooShort,
        ProcessError,
        TimeoutError,  # noqa: A004 - the standard name
        assert_spawning,
        get_spawning_popen,
        set_spawning_popen,
    )
    from multiprocessing.process import BaseProcess
    from typing import Literal, TypeVar, overload

    from typing_extensions import Unpack

    from garrison import sync
    from garrison.manager import ManagerOptions, SyncManager
    from garrison.memory import FloatCode, IntCode
    from garrison.options import OptionValues
    from garrison.pool import Pool
    from garrison.sync import LockOptions

    C = TypeVar("C")
    __all__ = [
        "AuthenticationError",
        "BufferTooShort",
        "ProcessError",
        "TimeoutError",
        "assert_spawning",
        "get_spawning_popen",
        "set_spawning_popen",
    ]
else:
    __all__: list[str] = []
    _theirs = multiprocessing.context
_insides: Any = multiprocessing.context


class BaseContext(_theirs.BaseContext):
    """The functions that garrison replaces, with a context's start method.

    Each method imports its modules at its first call.
    """

    if TYPE_CHECKING:
        Process: ClassVar[type[BaseProcess]]

    if TYPE_CHECKING:

        @overload  # type: ignore[override] # contexts of garrison's
        def get_context(self, method: Literal["fork"]) -> ForkContext: ...
        @overload
        def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
        @overload
        def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
        @overload
        def get_context(self, method: str | None = None) -> BaseContext: ...

    def get_context(self, method: str | None = None) -> BaseContext:
        """Return the context for another start method.

        Raises
        ------
        ValueError
            If there is no such method.
        """
        if method is None:
            return self
        _theirs.BaseContext.get_context(self, method)  # raises if this system does not have it
        context: BaseContext = _concrete_contexts[method]
        return context

    def freeze_support(self) -> None:
        """Run the child process of a frozen program, if this is one; else return at once.

        Unlike the standard library's, on every system: tools that freeze programs replace the
        function of `multiprocessing.spawn`.
        """
        if getattr(sys, "frozen", False):
            _standard.load("spawn").freeze_support()

    def Pool(  # noqa: N802 - the standard name
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        engine: Any = None,
        **options: Unpack[OptionValues],
    ) -> Pool:
        """Return a pool of processes; see `garrison.Pool`.

        Parameters
        ----------
        processes : int, optional
            Number of workers; by default as many as this process may use processors.
        initializer : callable, optional
            Called as ``initializer(*initargs)`` in each worker before its first task.
        initargs : iterable
            Arguments of the initializer.
        maxtasksperchild : int, optional
            After so many tasks a worker is replaced by a fresh one.
        engine : str or object, optional
            What runs the tasks, if not processes of this machine.
        **options
            The fields of `garrison.Options`: `timeout` in seconds, `retries` ...

        Raises
        ------
        TypeError, ValueError
            If an option is unknown, or a value is out of range.

        Examples
        --------
        >>> import garrison
        >>> with garrison.get_context("fork").Pool(2, retries=1) as pool:
        ...     pool.map(abs, [-1, -2])
        [1, 2]
        """
        from garrison.pool import Pool

        chosen: Any = self.get_context()
        return Pool(
            processes, initializer, initargs, maxtasksperchild, chosen, engine=engine, **options
        )

    def Manager(  # type: ignore[override] # noqa: N802 - the standard name takes less
        self, address: Any = None, **options: Unpack[ManagerOptions]
    ) -> SyncManager:
        """Return a manager whose server has been started.

        Parameters
        ----------
        address : tuple or str, optional
            Where it listens, for this machine or for others: ``("0.0.0.0", 5000)``, also as
            ``"0.0.0.0:5000"``. Or the URL of a Valkey or Redis server,
            ``"valkey://host:6379/0"``, which has all of it then.
        **options
            `key`, `path`, `sync`, `size` and all else that `garrison.managers.SyncManager` takes.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     shared = manager.dict()
        ...     shared["a"] = {}
        ...     shared["a"]["b"] = 1
        ...     print(shared)
        {'a': {'b': 1}}
        """
        if isinstance(address, str) and ":" in address:
            # Late: few managers have a URL or a port.
            from garrison.manager import is_valkey_url, place_of, valkey_manager

            if is_valkey_url(address):
                return valkey_manager(address, ctx=self.get_context(), **options)
            address = place_of(address)
        from garrison.manager import SyncManager

        manager = SyncManager(address, ctx=self.get_context(), **options)
        manager.start()
        return manager

    def Lock(self, **options: Unpack[LockOptions]) -> sync.Lock:  # noqa: N802 - the standard name
        """Return a lock between processes; see `garrison.Lock`.

        Parameters
        ----------
        **options
            `on_abandon` and `detect_deadlocks`.
        """
        from garrison.sync import Lock

        return Lock(ctx=self.get_context(), **options)

    def RLock(self, **options: Unpack[LockOptions]) -> sync.RLock:  # noqa: N802 - the standard name
        """Return a lock that its owner may acquire again; see `garrison.RLock`.

        Parameters
        ----------
        **options
            `on_abandon` and `detect_deadlocks`.
        """
        from garrison.sync import RLock

        return RLock(ctx=self.get_context(), **options)

    def Queue(self, maxsize: int = 0) -> sync.Queue[Any]:  # noqa: N802 - the standard name
        """Return a queue between processes; see `garrison.Queue`.

        Parameters
        ----------
        maxsize : int
            How many items it can hold; 0 or less: as many as fit into memory.
        """
        from garrison.sync import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(  # noqa: N802 - the standard name
        self, maxsize: int = 0
    ) -> sync.JoinableQueue[Any]:
        """Return a queue with `join`, which waits until all its items are done."""
        from garrison.sync import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> sync.SimpleQueue[Any]:  # noqa: N802 - the standard name
        """Return a queue with `put`, `get` and `empty` only."""
        from garrison.sync import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    if TYPE_CHECKING:

        @overload  # type: ignore[override] # more exact types
        def Value(self, typecode_or_type: type[C], *args: Any, lock: Literal[False]) -> C: ...
        @overload
        def Value(self, typecode_or_type: str, *args: Any, lock: Literal[False]) -> Any: ...
        @overload
        def Value(
            self, typecode_or_type: IntCode, *args: int, lock: Any = True
        ) -> sync.Synchronized[int]: ...
        @overload
        def Value(
            self, typecode_or_type: FloatCode, *args: float, lock: Any = True
        ) -> sync.Synchronized[float]: ...
        @overload
        def Value(
            self, typecode_or_type: type[_SimpleCData[C]], *args: Any, lock: Any = True
        ) -> sync.Synchronized[C]: ...
        @overload
        def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any: ...

    def Value(  # noqa: N802 - the standard name
        self, typecode_or_type: Any, *args: Any, lock: Any = True
    ) -> Any:
        """Return a number, or another C object, in shared memory."""
        from garrison.sync import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    if TYPE_CHECKING:

        @overload
        def Array(
            self,
            typecode_or_type: Any,
            size_or_initializer: int | Collection[Any],
            *,
            lock: Literal[False],
        ) -> Any: ...
        @overload
        def Array(
            self,
            typecode_or_type: IntCode,
            size_or_initializer: int | Collection[int],
            *,
            lock: Any = True,
        ) -> sync.SynchronizedArray[int]: ...
        @overload
        def Array(
            self,
            typecode_or_type: FloatCode,
            size_or_initializer: int | Collection[float],
            *,
            lock: Any = True,
        ) -> sync.SynchronizedArray[float]: ...
        @overload
        def Array(
            self,
            typecode_or_type: Literal["c"] | type[ctypes.c_char],
            size_or_initializer: int | Collection[Any],
            *,
            lock: Any = True,
        ) -> sync.SynchronizedString: ...
        @overload
        def Array(
            self,
            typecode_or_type: type[_SimpleCData[C]],
            size_or_initializer: int | Collection[Any],
            *,
            lock: Any = True,
        ) -> sync.SynchronizedArray[C]: ...
        @overload
        def Array(
            self,
            typecode_or_type: Any,
            size_or_initializer: int | Collection[Any],
            *,
            lock: Any = True,
        ) -> sync.SynchronizedArray[Any]: ...

    def Array(  # noqa: N802 - the standard name
        self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True
    ) -> Any:
        """Return an array in shared memory."""
        from garrison.sync import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    if TYPE_CHECKING:

        @overload
        def RawValue(self, typecode_or_type: type[C], *args: Any) -> C: ...
        @overload
        def RawValue(self, typecode_or_type: str, *args: Any) -> Any: ...

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:  # noqa: N802 - the standard name
        """Return a C object in shared memory, without a lock."""
        from garrison.memory import RawValue

        return RawValue(typecode_or_type, *args)

    if TYPE_CHECKING:

        @overload
        def RawArray(
            self,
            typecode_or_type: type[_SimpleCData[Any]],
            size_or_initializer: int | Collection[Any],
        ) -> ctypes.Array[Any]: ...
        @overload
        def RawArray(
            self, typecode_or_type: Any, size_or_initializer: int | Collection[Any]
        ) -> Any: ...

    def RawArray(  # noqa: N802 - the standard name
        self, typecode_or_type: Any, size_or_initializer: Any
    ) -> Any:
        """Return an array of C objects in shared memory, without a lock."""
        from garrison.memory import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Condition(  # noqa: N802 - the standard name
        self, lock: synchronize.Lock | synchronize.RLock | None = None
    ) -> sync.Condition:
        """Return a condition variable."""
        from garrison.sync import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> sync.Semaphore:  # noqa: N802 - the standard name
        """Return a semaphore."""
        from garrison.sync import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(  # noqa: N802 - the standard name
        self, value: int = 1
    ) -> sync.BoundedSemaphore:
        """Return a semaphore that refuses more releases than acquisitions."""
        from garrison.sync import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> sync.Event:  # noqa: N802 - the standard name
        """Return an event."""
        from garrison.sync import Event

        return Event(ctx=self.get_context())

    def Barrier(  # noqa: N802 - the standard name
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> sync.Barrier:
        """Return a barrier."""
        from garrison.sync import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())


class Process(_theirs.Process):
    """A process, by the default start method."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the standard name
        process: Any = _default_context.get_context().Process
        return process._Popen(process_obj)


if TYPE_CHECKING:
    DefaultProcess = Process


class ForkProcess(_theirs.ForkProcess):
    """A process that is a copy of this one."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the standard name
        importing = sys.modules.get("garrison.supervisor.import_guard")
        if importing is not None:
            importing.check_not_importing()
        return _theirs.ForkProcess._Popen(process_obj)


class SpawnProcess(_theirs.SpawnProcess):
    """A process in a fresh interpreter."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the standard name
        from garrison.pool import process_start

        return process_start.spawn(process_obj)


class ForkServerProcess(_theirs.ForkServerProcess):
    """A process that is forked from a fresh interpreter."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the standard name
        from garrison.pool import process_start

        return process_start.fork_from_server(process_obj)


class DefaultContext(_theirs.DefaultContext, BaseContext):
    """The context of the package's functions: its start method is multiprocessing's too."""

    Process: ClassVar[type[DefaultProcess]] = Process

    def __init__(self) -> None:
        """Do nothing: the state is that of the standard library's default context."""

    @property
    def _default_context(self) -> Any:
        # Late: from 3.14 on the standard library inspects the system to find it.
        return _concrete_contexts[_insides._default_context._default_context._name]

    @property
    def _actual_context(self) -> Any:
        theirs = _insides._default_context._actual_context
        return None if theirs is None else _concrete_contexts[theirs._name]

    @_actual_context.setter
    def _actual_context(self, context: Any) -> None:
        theirs = None if context is None else _insides._concrete_contexts[context._name]
        _insides._default_context._actual_context = theirs


class ForkContext(BaseContext, _theirs.ForkContext):
    """Start processes by forking this one."""

    Process: ClassVar[type[ForkProcess]] = ForkProcess


class SpawnContext(BaseContext, _theirs.SpawnContext):
    """Start processes in fresh interpreters."""

    Process: ClassVar[type[SpawnProcess]] = SpawnProcess


class ForkServerContext(BaseContext, _theirs.ForkServerContext):
    """Start processes by forking a fresh interpreter."""

    Process: ClassVar[type[ForkServerProcess]] = ForkServerProcess


_concrete_contexts: dict[str, Any] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_default_context: DefaultContext = DefaultContext()

if not TYPE_CHECKING:
    __getattr__, __dir__ = _standard.mirror(__name__, globals())
