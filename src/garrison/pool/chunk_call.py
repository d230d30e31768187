"""Several calls of one function in one task: what the chunks of `Executor.map` are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from garrison._typing import Any
from garrison.pool._calls import prepared, sees_through

__all__ = ["chunk_call"]


def chunk_call(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Return a function of an iterable of tuples of arguments: it returns a list of results."""
    return partial(_run_chunk, function, sees_through(function))


def _run_chunk(function: Callable[..., Any], sees: bool, *state_and_chunk: Any) -> list[Any]:
    """Make the calls, in a worker. With the option `pass_state`, the state comes before them."""
    *state, chunk = state_and_chunk
    if sees:
        function = prepared(function, None, sees=True)
    return [function(*state, *args) for args in chunk]
