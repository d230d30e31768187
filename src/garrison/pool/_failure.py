"""`Failure`: what takes the place of a result with ``on_error="return"``."""

from __future__ import annotations

from garrison._frozen import Frozen
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.pool._facts import Facts

__all__ = ["Failure", "failure_of"]

MAX_TEXT = 100
"""Characters of the error in a repr."""


class Failure(Frozen):
    """A failed item, in the place of its result, with ``on_error="return"``.

    It is false, so ``filter(None, results)`` leaves it out; where a result may be false too, ask
    ``isinstance(result, Failure)``. It can be pickled.

    Parameters
    ----------
    index : int or None
        The item's place in the input; None for a single call.
    item : str
        A short description of the item, or of the arguments of the call.
    error : BaseException
        What was raised; or `WorkerDied`, `TaskTimeout`, or why the item could not be sent.
    attempt : int
        Which attempt it was; 0 if no worker got it.
    worker : str
        The worker's name and process number; empty if no worker got it.
    duration : float
        Seconds that the attempt took.

    Examples
    --------
    >>> from garrison import Failure, Pool
    >>> with Pool(2, on_error="return") as pool:
    ...     one, failed = pool.map(lambda n: 1 // n, [1, 0])
    >>> one, failed.index, failed.item, failed.error
    (1, 1, '0', ZeroDivisionError('integer division or modulo by zero'))
    """

    index: int | None
    item: str
    error: BaseException
    attempt: int
    worker: str
    duration: float

    def __init__(
        self,
        index: int | None,
        item: str,
        error: BaseException,
        attempt: int = 0,
        worker: str = "",
        duration: float = 0.0,
    ) -> None:
        vars(self).update(
            index=index,
            item=item,
            error=error,
            attempt=attempt,
            worker=worker,
            duration=duration,
        )

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(vars(self).values())

    def __repr__(self) -> str:
        which = "" if self.index is None else f"item {self.index}: "
        return f"<Failure {which}{self.item or '...'}: {_text(self.error)}>"


def failure_of(error: BaseException, facts: Facts | None, index: int | None) -> Failure:
    """Return the failure of an item of the input, of which these facts are known."""
    if facts is None:
        return Failure(index, "", error)
    return Failure(index, facts.item, error, facts.attempt, facts.where, facts.duration)


def _text(error: BaseException) -> str:
    try:
        text = repr(error)
    except Exception:
        return f"{type(error).__qualname__}(...)"
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


Failure.__module__ = "garrison.pool"
