"""The standard library's modules beside garrison's of the same names.

::

    garrison.util    is multiprocessing.util itself: garrison changes nothing there (become)
    garrison.queues  has garrison's names, and the standard module's for the rest (mirror)

After ``sys.modules["multiprocessing"] = garrison`` a program's ``import multiprocessing.queues``
finds garrison's module. The standard modules are then stored here: garrison's classes derive from
theirs. So ``import garrison`` loads no module in which the two differ: a module in ``sys.modules``
before the replacement is the one that ``from multiprocessing.queues import Queue`` uses.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class managers:  # noqa: N801 - a module
        """Inherited attributes that garrison's classes do not use."""

        class BaseProxy:
            """Stands for an object in a server."""

        class IteratorProxy(BaseProxy):
            """Stands for an iterator."""

        class AcquirerProxy(BaseProxy):
            """Stands for a lock or a semaphore."""

        class ConditionProxy(AcquirerProxy):
            """Stands for a condition."""

        class EventProxy(BaseProxy):
            """Stands for an event."""

        class BarrierProxy(BaseProxy):
            """Stands for a barrier."""

        class NamespaceProxy(BaseProxy):
            """Stands for an object with attributes."""

        class ValueProxy(BaseProxy):
            """Stands for an object with a value."""

        class ArrayProxy(BaseProxy):
            """Stands for an array."""

        class DictProxy(BaseProxy):
            """Stands for a dict."""

        class ListProxy(BaseProxy):
            """Stands for a list."""

        class PoolProxy(BaseProxy):
            """Stands for a pool."""

        class Server:
            """Holds objects for other processes."""

        class SharedMemoryServer(Server):
            """Removes blocks of shared memory when it ends."""

        class BaseManager:
            """Starts a server, or finds one."""

        class SyncManager(BaseManager):
            """Makes containers and locks."""

        class SharedMemoryManager(BaseManager):
            """Makes blocks of shared memory."""

        class RemoteError(Exception):
            """An exception of a server."""

        class Token:
            """Names an object of a server."""

            def __init__(self, typeid: str, address: Any, id: str) -> None: ...  # noqa: A002

            typeid: str
            address: Any
            id: str

        AutoProxy: Any
        Namespace: Any
        Value: Any
        Array: Any


__all__ = [
    "become",
    "current_context",
    "hide",
    "install",
    "is_installed",
    "is_replaced",
    "load",
    "managers",
    "mirror",
]

_OURS = __package__
_THEIRS = "multiprocessing"
_NATIVE = sys.platform == "linux"
"""Elsewhere garrison's names are the standard library's, and nothing is replaced."""
_kept: dict[str, ModuleType] = {}
"""The standard package and its modules, once garrison has replaced them."""
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def load(name: str) -> Any:
    """Return a module of the standard library's package, even if garrison has replaced it."""
    full = f"{_THEIRS}.{name}"
    if not is_replaced():
        return importlib.import_module(full)
    install()
    if full not in _kept:
        with _lock, _originals():
            importlib.import_module(full)
    return _kept[full]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load the standard module from which garrison's classes derive, at its first use."""
        if name == "managers":
            return load(name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def become(name: str) -> None:
    """Replace the module of garrison that is being imported by the standard one."""
    sys.modules[name] = load(name.partition(".")[2])


def mirror(
    name: str, namespace: dict[str, Any], *, complete: bool = False
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a ``__getattr__`` and a ``__dir__`` that add the standard module's names to a module.

    Names are looked up at each use: some are variables. The names of ``import *`` of the standard
    module are added to the ``__all__`` of `namespace`, unless that is `complete`: then the standard
    module is loaded at its first use.
    """
    submodule = name.partition(".")[2]

    def get(attribute: str) -> Any:
        if not attribute.startswith("__") and not _is_own_module(namespace, attribute):
            standard = load(submodule)
            if hasattr(standard, attribute):
                return getattr(standard, attribute)
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

    def names() -> list[str]:
        return sorted({*namespace, *dir(load(submodule))})

    if not complete:
        standard_names = getattr(load(submodule), "__all__", ())
        known = namespace["__all__"]
        known += [each for each in standard_names if each not in known]
    return get, names


def _is_own_module(package: dict[str, Any], name: str) -> bool:
    """Whether a name is a private module of garrison, which imports first look up as a name."""
    folders = package.get("__path__", ()) if name.startswith("_") else ()
    return any(os.path.exists(f"{folder}/{name}.py") for folder in folders)  # noqa: PTH110 - quick


_HIDDEN = (f"{_THEIRS}.", "threading")
"""Modules whose methods garrison's classes may refuse."""


class _Without:
    """An attribute of a standard class that garrison's class does not have."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        kind = type(instance) if instance is not None else owner
        name = getattr(kind, "__qualname__", kind)
        raise AttributeError(f"garrison's {name} has no attribute {self._name!r}: {self._why}")


def hide(cls: type, why: str, keep: Iterable[str] = ()) -> None:
    """Make a class refuse the methods that it inherits from standard classes and does not replace.

    They use attributes that objects of garrison do not have. Special methods, and the names to
    keep, remain.
    """
    homes = {name: each for each in reversed(cls.__mro__) for name in vars(each)}
    for name, home in homes.items():
        if name.startswith("__") or name in keep:
            continue
        # Not the methods that a program has added to the standard class.
        maker = getattr(vars(home)[name], "__module__", None) or home.__module__
        if home.__module__.startswith(_HIDDEN) and maker.startswith(_HIDDEN):
            hidden = _Without(why)
            hidden.__set_name__(cls, name)
            setattr(cls, name, hidden)

    denying: Any = cls
    denying.__dir__ = _visible


def _visible(instance: object) -> list[str]:
    """List the available names, from which a manager takes the methods to expose."""
    hidden = {
        name
        for each in type(instance).__mro__
        for name, value in vars(each).items()
        if isinstance(value, _Without)
    }
    return [name for name in object.__dir__(instance) if name not in hidden]


def current_context() -> Any:
    """Return garrison's context of the current start method."""
    return sys.modules[_OURS].get_context()


# --- Replacing the standard library ---------------------------------------------------------------


def is_replaced() -> bool:
    """Whether the program has replaced ``multiprocessing`` by garrison."""
    ours = sys.modules.get(_OURS)
    return _NATIVE and ours is not None and sys.modules.get(_THEIRS) is ours


def is_installed() -> bool:
    """Whether modules of ``multiprocessing`` are looked up in garrison."""
    return is_replaced() and bool(_kept)


def install() -> None:
    """Replace multiprocessing and its modules by garrison's.

    Child interpreters of this process do the same before anything else.
    """
    with _lock:
        if is_installed() or not _NATIVE:
            return
        _kept.update(_named_theirs())
        _kept[_THEIRS] = multiprocessing
        for full in _named_theirs():
            del sys.modules[full]
        sys.modules[_THEIRS] = sys.modules[_OURS]
        _tell_children()


def _named_theirs() -> dict[str, ModuleType]:
    """Return the modules of multiprocessing in ``sys.modules``, without the package."""
    return {
        full: module for full, module in list(sys.modules.items()) if full.startswith(f"{_THEIRS}.")
    }


@contextlib.contextmanager
def _originals() -> Iterator[None]:
    """Let the standard modules import each other; the loaded ones are stored."""
    ours = _named_theirs()
    for full in ours:
        del sys.modules[full]
    sys.modules.update(_kept)
    try:
        yield
    finally:
        _kept.update(_named_theirs())
        for full in _named_theirs():
            del sys.modules[full]
        sys.modules[_THEIRS] = sys.modules[_OURS]
        sys.modules.update(ours)


class _Finder:
    """Finds ``multiprocessing.queues`` in garrison, once garrison is ``multiprocessing``."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - garrison is found by its name
        target: ModuleType | None = None,  # noqa: ARG002 - of importlib.reload
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(f"{_THEIRS}.") or not is_replaced():
            return None
        install()
        # Not derived from the abstract class, whose module takes longer to import than all of this.
        loader: Any = _Loader()
        return importlib.machinery.ModuleSpec(fullname, loader)


class _Loader:
    @staticmethod
    def create_module(_spec: importlib.machinery.ModuleSpec) -> None:
        """Let the default create an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = importlib.import_module(_OURS + name[len(_THEIRS) :])


def _tell_children() -> None:
    """Make each interpreter that multiprocessing starts replace it as well."""
    util = load("util")
    start = util.spawnv_passfds
    first = (
        f"import sys; sys.path.insert(0, {os.path.dirname(os.path.dirname(__file__))!r}); "  # noqa: PTH120
        f"import {__name__} as first; del sys.path[0]; first.install(); del first; "
    )

    def spawnv_passfds(path: Any, args: Any, passfds: Any) -> Any:
        arguments = list(args)
        if "-c" in arguments:
            at = arguments.index("-c") + 1
            arguments[at] = first + arguments[at]
        return start(path, arguments, passfds)

    util.spawnv_passfds = spawnv_passfds


sys.meta_path.insert(0, _Finder())
