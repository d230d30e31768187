"""How a registered function is called beyond ``function(item)``: what options ask for.

This needs nothing of the core, as `call_runner` does not.
"""

from __future__ import annotations

import functools
import sys
import types

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.options import Options

__all__ = ["SHARE", "StarCall", "call_policy", "prepared", "sees_through"]

SHARE = "garrison.memory._share"
"""The module of shared objects: a program that has not loaded it has none."""


class StarCall(functools.partial):  # type: ignore[type-arg] # no subscript at run time
    """A function whose last argument is a tuple of arguments."""

    def __call__(self, /, *args: Any, **kwds: Any) -> Any:
        """Call the function."""
        *first, item = args
        return self.func(*first, *item, **kwds)


def call_policy(options: Options, function: Callable[..., Any], log: Any = None) -> tuple[Any, ...]:
    """Return how workers call a function with these options; nothing if they just call it.

    It is pickled with the function: attempts, the exceptions after which there is another one, and
    the arguments of `prepared`.
    """
    sees = sees_through(function)
    if options.pass_state or log is not None or sees:
        retries = options.retries if options.retry_on else 0
        return retries, options.retry_on, options.pass_state, sees, log
    return (options.retries, options.retry_on) if options.retry_on else ()


def sees_through(function: Callable[..., Any]) -> bool:
    """Whether a shared object may be an argument whose type the function says."""
    if SHARE not in sys.modules:
        return False
    if type(function) is StarCall:
        function = function.func
    return type(function) is types.FunctionType and bool(function.__annotations__)


def prepared(
    function: Callable[..., Any],
    state: Any,
    pass_state: bool = False,
    sees: bool = False,
    log: Any = None,
) -> Callable[..., Any]:
    """Return the function as it is called in a worker with this state."""
    if sees:
        from garrison.pool._see_through import SeeingThrough

        is_star = type(function) is StarCall
        function = SeeingThrough(function.func if is_star else function)  # type: ignore[attr-defined] # a partial
        function = StarCall(function) if is_star else function
    if pass_state:
        function = functools.partial(function, state)
    return function if log is None else log.logged(function)
