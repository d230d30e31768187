"""Shared containers as plain data, for pickles that are not sent to another process.

A file may be read when the manager is gone, so a plain pickle has plain data at all levels.
Transfers (arguments, results, items of queues, values of managers) have reducers of their own: see
`garrison._pickling`. Pickles of cloudpickle have handles: they are for other processes, and not for
files, as its documentation says.
"""

from __future__ import annotations

import sys
from collections import deque

from garrison._standard import managers
from garrison._typing import Any

__all__ = ["is_cloudpickle", "plain_copy", "reduce_as_plain"]


def is_cloudpickle(depth: int = 2) -> bool:
    """Whether the caller's caller is a pickler of cloudpickle, or of a library's copy of it."""
    name: str = sys._getframe(depth).f_globals.get("__name__", "")
    return "cloudpickle" in name


def plain_copy(container: Any, known: dict[Any, Any] | None = None) -> Any:
    """Return a plain copy of a container; nested containers are plain as well."""
    known = {} if known is None else known
    place = container.__garrison_container__()
    if place not in known:
        known[place] = plain = container._getvalue()
        _replace(plain, known)
    return known[place]


def reduce_as_plain(plain: Any, protocol: Any) -> Any:
    """Return the reduction of a plain object, as that of another object."""
    if type(plain) is dict:
        return dict, (), None, None, iter(plain.items())
    if type(plain) is list:
        return list, (), None, iter(plain)
    ours = type(plain) in {managers.Namespace, managers.Value}
    return plain.__reduce_ex__(0 if ours else protocol)


def _replace(plain: Any, known: dict[Any, Any]) -> None:
    """Replace containers in a new object by plain copies."""
    if isinstance(plain, dict):
        for key, value in plain.items():
            plain[key] = _plain(value, known)
    elif type(plain) in {list, deque}:
        for index, value in enumerate(plain):
            plain[index] = _plain(value, known)
    elif type(plain) in {managers.Namespace, managers.Value}:
        _replace(vars(plain), known)


def _plain(value: Any, known: dict[Any, Any]) -> Any:
    if hasattr(type(value), "__garrison_container__"):
        return plain_copy(value, known)
    if type(value) is tuple:
        return tuple(_plain(each, known) for each in value)
    _replace(value, known)
    return value
