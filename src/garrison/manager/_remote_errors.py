"""Exceptions sent from a server to a client: the exception and its traceback."""

from __future__ import annotations

import errno
import functools
import traceback

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any, NoReturn
from garrison.errors import GarrisonError
from garrison.pool import RemoteTraceback

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from garrison.manager._serializers import Serializer
    from garrison.net import RemoteFailure

    M = TypeVar("M", bound=Callable[..., Any])

__all__ = [
    "NotMade",
    "RemoteError",
    "encode_exception",
    "is_failure",
    "raise_decoded",
    "raise_failure",
    "refusing",
]

RAISED = "raised"
"""A method of the user has raised; the data are its exception, if that can be pickled."""
REMOTE = "remote"
"""The server failed; there is a text only."""

FORBIDDEN = "PermissionError"
"""The client's key does not allow the request."""

CREATE_FAILED = "unmade"
"""The constructor of an object has raised; the data are its exception, if it can be pickled."""

Outcome = tuple[Any, ...]
"""The fields of a reply, or those of a failure."""


class RemoteError(managers.RemoteError, GarrisonError):
    """A request failed in the server; the text is the traceback from there."""


class NotMade(RemoteError, TypeError, ValueError):
    """An object cannot be made from these arguments."""


def encode_exception(error: BaseException, chosen: Serializer) -> tuple[str, str, bytes]:
    """Return kind, text and data of an exception of a user's method."""
    text = "".join(traceback.format_exception(error))
    try:
        data = chosen.dumps(error)
        chosen.loads(data)
    except Exception:
        return REMOTE, text, b""
    return RAISED, text, data


def raise_failure(refusal: RemoteFailure, chosen: Serializer) -> NoReturn:
    """Raise the exception of a server, with the traceback from there as its cause."""
    raise_decoded((refusal.kind, refusal.text, refusal.data), chosen)


def raise_decoded(outcome: Outcome, chosen: Serializer) -> NoReturn:
    """Raise the exception of an outcome."""
    kind, text, data = outcome
    error = decode_exception(kind, text, data, chosen)
    try:
        raise error from error.__cause__
    finally:
        # It has this frame in its traceback, and so whatever called it.
        del error


def decode_exception(kind: str, text: str, data: bytes, chosen: Serializer) -> BaseException:
    """Return the exception that was raised in the server."""
    if kind == FORBIDDEN:
        return PermissionError(text)
    told = RemoteError(text if text.endswith("\n") else f"{text}\n")
    if kind not in {RAISED, CREATE_FAILED} or not data:
        return told
    try:
        error: Any = chosen.loads(data)
    except Exception:
        return told
    if kind == CREATE_FAILED:
        told.__cause__ = error
        return told
    error.__cause__ = RemoteTraceback(f"\n{text}")
    return error  # type: ignore[no-any-return]


def is_failure(outcome: Outcome) -> bool:
    """Whether an outcome is (kind, text, data) of a failure."""
    return len(outcome) == 3 and type(outcome[0]) is str and type(outcome[2]) is bytes  # noqa: PLR2004


def refusing(make: M) -> M:
    """Raise bad input as a RemoteError too, which programs expect of a server's objects."""

    @functools.wraps(make)
    def refusing(*args: Any, **kwds: Any) -> Any:
        try:
            return make(*args, **kwds)
        except (TypeError, ValueError, OverflowError, OSError) as error:
            if not _is_bad_input(error):
                raise
            msg = f"cannot make this {make.__name__}: {error}"
            raise NotMade(msg) from error

    return refusing  # type: ignore[return-value] # the same signature


def _is_bad_input(error: Exception) -> bool:
    """Whether the exception is of a builtin class itself, not of a more specific one."""
    if type(error) is OSError:
        return error.errno == errno.EINVAL
    return type(error) in {TypeError, ValueError, OverflowError}
