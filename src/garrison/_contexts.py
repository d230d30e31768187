"""Contexts of the standard library whose `Pool` is garrison's."""

from __future__ import annotations

import multiprocessing
from multiprocessing import context
from typing import TYPE_CHECKING, Any

from garrison.pool import Pool as _Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.pool import Pool

__all__ = ["get_context", "get_start_method", "set_start_method"]


class _WithPool:
    """Added to a context: its pools are garrison's, with its start method."""

    def get_context(self, method: str | None = None) -> Any:
        """Return the context for another start method."""
        return self if method is None else get_context(method)

    def Pool(  # noqa: N802 - the standard name
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **options: Any,
    ) -> Pool:
        """Return a pool of processes."""
        chosen: Any = self
        return _Pool(processes, initializer, initargs, maxtasksperchild, chosen, **options)


class ForkContext(_WithPool, context.ForkContext):  # type: ignore[misc] # Pool is another
    """Start processes by forking this one."""


class SpawnContext(_WithPool, context.SpawnContext):  # type: ignore[misc] # Pool is another
    """Start processes in fresh interpreters."""


class ForkServerContext(_WithPool, context.ForkServerContext):  # type: ignore[misc] # Pool is another
    """Start processes by forking a fresh interpreter."""


_CONTEXTS: dict[str, Any] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}


def get_context(method: str | None = None) -> Any:
    """Return a context for a start method; by default for the current one.

    Raises
    ------
    ValueError
        If there is no such method.

    Examples
    --------
    >>> import garrison
    >>> with garrison.get_context("spawn").Pool(1) as pool:
    ...     pool.apply(len, ("four",))
    4
    """
    if method is None:
        method = multiprocessing.get_start_method()
    multiprocessing.get_context(method)  # raises for what this system has not
    return _CONTEXTS[method]


def get_start_method(allow_none: bool = False) -> str | None:
    """Return the name of the start method, shared with `multiprocessing`."""
    return multiprocessing.get_start_method(allow_none)


def set_start_method(method: str | None, force: bool = False) -> None:
    """Choose the start method, shared with `multiprocessing`."""
    multiprocessing.set_start_method(method, force)
