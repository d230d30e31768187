"""How an exception travels: a header that can always be decoded, before a payload that may not.

This needs nothing of the core, which a sub-interpreter cannot load.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable

from garrison._typing import Any

__all__ = ["encode_error"]

_OURS = ("garrison.pool", "garrison.engines")


def encode_error(
    error: BaseException,
    dumps: Callable[[BaseException], bytes],
    facts: tuple[Any, ...] | None = None,
) -> bytes:
    """Encode an exception: the header, then the exception with its causes and contexts.

    Parameters
    ----------
    error : BaseException
        What was raised.
    dumps : callable
        Pickles one exception.
    facts : tuple, optional
        What is known of the call: `Facts.as_tuple`.
    """
    kind = type(error)
    text = "".join(_formatted(error))
    header = (f"{kind.__module__}.{kind.__qualname__}", _safe(str, error), text)
    chain = _linked(error)
    try:
        pickles = [dumps(error), *(_dumps_linked(each, dumps) for each in chain[1:])]
        return pickle.dumps((*header, pickles, _links(chain), facts))
    except Exception as failure:
        why = (_safe(str, failure), _safe(repr, failure), _safe(repr, error))
        return pickle.dumps((*header, None, why, facts))


def _dumps_linked(error: BaseException, dumps: Callable[[BaseException], bytes]) -> bytes | None:
    try:
        return dumps(error)
    except Exception:
        return None  # the error itself can do without


def _formatted(error: BaseException) -> list[str]:
    tb = error.__traceback__
    # The frames of the worker itself say nothing about the task.
    while tb is not None and tb.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        tb = tb.tb_next
    try:
        # Late, as pools are there sooner without it.
        import traceback

        return traceback.format_exception(type(error), error, tb)
    except Exception:
        return [f"{type(error).__qualname__} (its traceback could not be formatted)\n"]


def _safe(function: Callable[[Any], str], value: object) -> str:
    try:
        return function(value)
    except Exception:
        return f"<{type(value).__qualname__}>"


def _linked(error: BaseException) -> list[BaseException]:
    """The exception and all that its causes and contexts lead to."""
    found = [error]
    for each in found:
        for link in (each.__cause__, None if each.__suppress_context__ else each.__context__):
            if link is not None and not any(link is known for known in found):
                found.append(link)
    return found


def _links(chain: list[BaseException]) -> list[tuple[int | None, int | None, bool]]:
    """Return the indices of the cause and context of each."""
    index = {id(error): number for number, error in enumerate(chain)}
    return [
        (
            index.get(id(error.__cause__)),
            index.get(id(error.__context__)),
            error.__suppress_context__,
        )
        for error in chain
    ]
