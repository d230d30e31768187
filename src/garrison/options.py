"""The options of a pool beyond the standard library: one frozen record, checked when made."""

from __future__ import annotations

import math
import operator

from garrison._frozen import Frozen
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, TypedDict

    from typing_extensions import Unpack

    class OptionValues(TypedDict, total=False):
        """The fields of `Options` as keyword arguments, as an editor lists them."""

        timeout: float | None
        """Seconds that each call of the function may take."""
        retries: int
        """How often a task is tried again after its worker died."""
        retry_on: type[BaseException] | tuple[type[BaseException], ...]
        """Exceptions of the function that are worth another attempt."""
        progress: Any
        """Show how many items are done: True, a label, a callable, or tqdm."""
        buffersize: int | None
        """Items that `imap` may take from its input ahead of the results."""
        seed: int | None
        """What the workers' own seeds are made from."""
        on_error: Literal["raise", "return", "skip"]
        """What becomes of a failed item: its exception, a `Failure`, or nothing."""
        pass_state: bool
        """Give what the initializer has returned to each call, as its first argument."""
        logs: bool
        """Show what tasks print, warn and log in the program itself."""
        finalizer: Callable[..., object] | None
        """Of a pool only: called in each worker at its orderly end."""


__all__ = ["Options"]


_DEFAULTS: dict[str, Any] = {
    "timeout": None,
    "retries": 0,
    "retry_on": (),
    "progress": False,
    "buffersize": None,
    "seed": None,
    "on_error": "raise",
    "pass_state": False,
    "logs": False,
    "finalizer": None,
}
_ON_ERROR = ("raise", "return", "skip")
_WORKERS = "the number of workers is the first argument of a Pool or an Executor"
_ELSEWHERE = {
    "max_workers": _WORKERS,
    "n_jobs": _WORKERS,
    "processes": _WORKERS,
    "progress_bar": "a bar is progress=True",
    "start_method": "for a start method: get_context('spawn').Pool(...)",
}
"""Where to find what other libraries have under these names."""


class Options(Frozen):
    """Options of a pool (``Pool(2, timeout=5)``) or of a view of it (``pool.options(retries=2)``).

    Parameters
    ----------
    timeout : float, optional
        Seconds that each call of the function may take. Then that task alone ends with
        `TaskTimeout` and its worker is replaced.
    retries : int
        How often a task is tried again after its worker died, or after an exception of a
        type in `retry_on`. The default 0 is safe for tasks that must not run twice.
    retry_on : exception type, or tuple of them
        Exceptions of the function after which it is tried again, in the same worker. A death is
        retried in any case; a timeout never, since the next attempt would be as late.
    progress : bool, str, callable, or a class or bar of tqdm
        Show how many items of a `map`, `imap` or the like are done: True shows a bar on stderr, a
        text one with that label. On a terminal or in a notebook it is drawn, elsewhere it is a line
        now and then. A callable is called as ``progress(done, total)``, where `total` is None for
        an input without a length; an error in it is a warning. A class such as ``tqdm.tqdm`` makes
        a bar for each call, and a bar, such as ``tqdm.tqdm(total=10)``, is counted up. See
        docs/progress.md.
    buffersize : int, optional
        How many items `imap` and `imap_unordered` may take from their input ahead of the results
        that were handed out. The default adapts to the tasks and stays small.
    seed : int, optional
        The seed from which the workers' seeds of `random` and `numpy.random` are derived.
    on_error : "raise", "return" or "skip"
        What becomes of a failed item of `map`, `starmap`, `imap` and `imap_unordered`. With
        ``"return"`` a `Failure` takes the place of its result, with ``"skip"`` it is left out; the
        other items are not affected. A single call returns a `Failure` with ``"return"``, and
        raises otherwise.
    pass_state : bool
        Give what the pool's initializer has returned in this worker to each call, as its first
        argument.
    logs : bool
        Show what tasks print, warn and log in the program's own streams and handlers of `logging`,
        in whole lines, each with its worker and task.
    finalizer : callable, optional
        Of a pool only. Called in each worker at its orderly end, with the state if `pass_state` is
        set; `Pool.finalizer_values` has what it has returned.

    Examples
    --------
    >>> Options(timeout=5).replace(retries=2)
    Options(timeout=5.0, retries=2)
    >>> Options(retries=-1)
    Traceback (most recent call last):
    ValueError: retries must be at least 0, not -1
    """

    timeout: float | None
    retries: int
    retry_on: tuple[type[BaseException], ...]
    progress: Any
    buffersize: int | None
    seed: int | None
    on_error: Literal["raise", "return", "skip"]
    pass_state: bool
    logs: bool
    finalizer: Callable[..., object] | None

    def __init__(self, **values: Unpack[OptionValues]) -> None:
        """Check and normalize every value."""
        for name in values:
            if name not in _DEFAULTS:
                hint = f"; {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
                msg = f"unknown option {name!r}; there are {', '.join(_DEFAULTS)}{hint}"
                raise TypeError(msg)
        chosen: dict[str, Any] = {**_DEFAULTS, **values}
        if chosen["timeout"] is not None:
            chosen["timeout"] = _check_seconds("timeout", chosen["timeout"])
        chosen["retries"] = check_int("retries", chosen["retries"], least=0, most=1 << 31)
        chosen["retry_on"] = _exception_types(chosen["retry_on"])
        chosen["progress"] = _check_progress(chosen["progress"])
        if chosen["buffersize"] is not None:
            chosen["buffersize"] = check_int("buffersize", chosen["buffersize"], least=1)
        if chosen["seed"] is not None:
            chosen["seed"] = check_int("seed", chosen["seed"])
        if chosen["on_error"] not in _ON_ERROR:
            msg = f"on_error must be 'raise', 'return' or 'skip', not {chosen['on_error']!r}"
            raise ValueError(msg)
        if chosen["finalizer"] is not None and not callable(chosen["finalizer"]):
            raise TypeError(f"finalizer must be callable, not {chosen['finalizer']!r}")
        vars(self).update(chosen)

    def replace(self, **changes: Unpack[OptionValues]) -> Options:
        """Return these options with some changed; an unknown name is an error that lists all."""
        values: Any = {**vars(self), **changes}
        return type(self)(**values)

    def __repr__(self) -> str:
        """Show only what differs from the defaults."""
        changed = {name: value for name, value in vars(self).items() if value != _DEFAULTS[name]}
        return f"Options({', '.join(f'{name}={value!r}' for name, value in changed.items())})"


class GivenBar:
    """A bar that the program has made. It is not compared: a bar of tqdm's compares its place."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def __repr__(self) -> str:
        return f"{type(self.bar).__name__}(...)"


def is_bar(value: Any) -> bool:
    """Whether a value is a progress bar, or a class of them, as tqdm's."""
    return callable(getattr(value, "update", None)) and callable(getattr(value, "close", None))


def _check_progress(value: Any) -> Any:
    if value is None or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    if isinstance(value, GivenBar):
        return value
    if isinstance(value, str):
        if not value:
            raise ValueError("progress must have a label, not ''; True shows the function's name")
        return value
    if is_bar(value) and not isinstance(value, type):
        return GivenBar(value)
    if callable(value):
        return value
    msg = f"progress must be True, a label, a callable, or a class or bar of tqdm, not {value!r}"
    raise TypeError(msg)


def check_int(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """Return `value` as an int in a range, or raise an error which names both."""
    try:
        number = operator.index(value)
    except TypeError:
        msg = f"{name} must be a whole number, not {value!r}"
        raise TypeError(msg) from None
    if least is not None and number < least:
        msg = f"{name} must be at least {least}, not {value!r}"
        raise ValueError(msg)
    if most is not None and number > most:
        msg = f"{name} must be at most {most}, not {value!r}"
        raise ValueError(msg)
    return number


def _check_seconds(name: str, value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        msg = f"{name} must be a number of seconds, not {value!r}"
        raise TypeError(msg) from None
    if not seconds > 0 or math.isinf(seconds):
        msg = f"{name} must be a positive number of seconds, not {value!r}"
        raise ValueError(msg)
    return seconds


def _exception_types(value: Any) -> tuple[type[BaseException], ...]:
    if not isinstance(value, (type, tuple, list, set, frozenset)):
        raise TypeError(f"retry_on takes exception types, not {value!r}")
    types = (value,) if isinstance(value, type) else tuple(value)
    for each in types:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            msg = f"retry_on takes exception types, not {each!r}"
            raise TypeError(msg)
    return types
