"""garrison on systems without its core: the standard library under garrison's names.

::

    garrison.Pool(4)                     multiprocessing's; an option that it cannot keep is refused
    garrison.Pool(4, engine="threads")   garrison's own, which needs no core; so with "serial"
    garrison.Queue, garrison.queues      multiprocessing's
    garrison.share, garrison.store       raise NeedsLinux when they are used

So a library can depend on garrison on any system; `garrison.NATIVE` says which it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import multiprocessing.pool
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from multiprocessing import process
from types import ModuleType

from garrison._no_core import StandIn, absent, needs_linux
from garrison._typing import TYPE_CHECKING, Any
from garrison.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Manager", "Pool", "homes", "install", "standard_context"]

_OURS = "garrison"
_THEIRS = "multiprocessing"
_FUTURES = {"Executor": "ProcessPoolExecutor", "ProcessPoolExecutor": "ProcessPoolExecutor"}
_PROCESSES = "processes"
_WITHOUT_CORE = ("serial", "threads")
"""The engines by name that work here."""
_OWN = ("cli", "engines", "errors", "memory", "options", "pool", "supervisor")
"""The public modules that are garrison's own here too. Private ones always are."""


def install() -> None:
    """Make garrison's modules find the standard library's, and say once what is not there."""
    core = StandIn(f"{_OURS}._core")
    sys.modules[core.__name__] = sys.modules[_OURS]._core = core  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Finder())
    # Not again in each process that the standard library starts.
    if not getattr(process.current_process(), "_inheriting", False):
        warnings.warn(
            f"garrison has no core on {sys.platform}: this is the standard library's "
            "multiprocessing under garrison's names, as fast and as fragile as ever. Options of "
            "pools (timeout, retries, ...), garrison.share, connect, aio and all else that is "
            "garrison's own raise garrison.NeedsLinux when used; garrison.NATIVE is False",
            RuntimeWarning,
            stacklevel=3,
        )


def homes(native: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return where the package's names are here, from where they are with the core."""
    kept = {home: native[home] for home in ("errors", "options")}
    others = [name for home, names in native.items() if home not in kept for name in names]
    return {**kept, "_elsewhere": tuple(others)}


def __getattr__(name: str) -> Any:
    """Return the standard library's object of this name, or one that refuses to be used."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _FUTURES:
        return getattr(importlib.import_module("concurrent.futures"), _FUTURES[name])
    return getattr(standard_context, name, None) or absent(_OURS, name)


standard_context: Any = multiprocessing.context._default_context
"""The standard library's, whose methods are the package's functions."""


def Manager(*args: Any, **options: Any) -> Any:  # noqa: N802 - the standard name
    """Return a started manager of the standard library."""
    if args or options:
        raise needs_linux("an argument of Manager")
    return multiprocessing.Manager()


# --- Pools ----------------------------------------------------------------------------------------


class Pool(multiprocessing.pool.Pool):
    """A pool of the standard library; with an engine that needs no core, a pool of garrison's.

    The parameters are those of `garrison.Pool` on Linux.

    Raises
    ------
    NeedsLinux
        If an option differs from its default, which the standard library cannot keep, or if the
        engine needs the core.
    """

    _state: Any = None  # until it is made, or refused: the standard library reads it at the end

    def __new__(cls, *args: Any, engine: Any = None, **options: Any) -> Any:
        """Return a pool of garrison's if there is an engine."""
        engine = engine or os.environ.get("GARRISON_ENGINE") or _PROCESSES
        if engine == _PROCESSES:
            return super().__new__(cls)
        if isinstance(engine, str) and engine not in _WITHOUT_CORE:
            raise needs_linux(f"a pool with engine={engine!r}")
        pools = importlib.import_module(f"{_OURS}.pool")
        return pools.NativePool(*args, engine=engine, **options)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        engine: Any = None,
        **options: Any,
    ) -> None:
        if engine not in {None, _PROCESSES}:  # added by a subclass
            raise needs_linux(f"{type(self).__name__} with engine={engine!r}")
        _refuse(options)
        super().__init__(processes, initializer, initargs, maxtasksperchild, context)

    def options(self, **changes: Any) -> Pool:
        """Return this pool: there is no option that the standard library keeps."""
        _refuse(changes)
        return self


def _refuse(options: dict[str, Any]) -> None:
    wanted = repr(Options(**options))
    if wanted != repr(Options()):
        raise needs_linux(f"a pool of processes with {wanted}")


# --- Modules --------------------------------------------------------------------------------------


class _Finder:
    """Finds ``garrison.queues``, and all others that it has, in the standard library."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - of importlib.reload
    ) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if package == _THEIRS and rest and sys.modules.get(_THEIRS) is sys.modules[_OURS]:
            return PathFinder.find_spec(fullname, multiprocessing.__path__)
        name = rest.partition(".")[0]
        if package != _OURS or not name or name.startswith("_"):
            return None
        if rest in {"memory", "pool"}:
            return _found(fullname, path, _Face)
        if name in _OWN:
            return None
        if name == "sync" or PathFinder.find_spec(f"{_THEIRS}.{name}", multiprocessing.__path__):
            return _found(fullname, path, _Sync if name == "sync" else _Theirs)
        return _found(fullname, path, _Refuser)


def _found(fullname: str, path: Sequence[str] | None, loader: Any) -> ModuleSpec | None:
    """Return a spec with another loader, if there is such a module."""
    spec = PathFinder.find_spec(fullname, path)
    if spec is not None:
        spec.loader = loader(spec.loader)
    return spec


class _Loader:
    def __init__(self, native: Any) -> None:
        self._native = native

    @staticmethod
    def create_module(_spec: ModuleSpec) -> None:
        """Let the default create an empty module."""


class _Theirs(_Loader):
    """Loads the standard library's module in the place of garrison's."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = importlib.import_module(_THEIRS + name[len(_OURS) :])


class _Refuser(_Loader):
    """Refuses to load what is garrison's own."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        raise needs_linux(f"the module {module.__name__}")


class _Sync(_Loader):
    """Loads ``garrison.sync``: the package's names."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        vars(module)["__getattr__"] = __getattr__


class _Face(_Loader):
    """Loads a package that garrison's pools of threads need; its names are the program's."""

    def exec_module(self, module: ModuleType) -> None:
        self._native.exec_module(module)
        theirs: Any = standard_context
        if module.__name__ == f"{_OURS}.pool":
            vars(module).update(NativePool=module.Pool, Pool=Pool, ThreadPool=module.ThreadPool)
            theirs = multiprocessing.pool
        for name in vars(module)["__all__"]:
            if name not in vars(module):
                setattr(module, name, getattr(theirs, name, None) or absent(module.__name__, name))
