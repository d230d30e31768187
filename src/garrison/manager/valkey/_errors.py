"""What a server's refusals, and the failures of a connection, mean for the caller.

This is the only place that knows the exceptions of the client library, and the server's codes.
"""

from __future__ import annotations

import re
from multiprocessing import AuthenticationError

from garrison._typing import TYPE_CHECKING
from garrison.errors import GarrisonError, LinkBroken, StoreFull

if TYPE_CHECKING:
    from garrison.manager.valkey._url import ValkeyUrl

__all__ = ["NoScript", "NotNow", "ServerRefused", "broken", "connect_error", "reply_error"]


class NotNow(GarrisonError):
    """The server did not carry the request out, and may do so later. For garrison itself.

    `elsewhere` is whether another server may be the one to ask now.
    """

    def __init__(self, reason: str, *, elsewhere: bool) -> None:
        super().__init__(reason)
        self.elsewhere = elsewhere


class NoScript(GarrisonError):
    """The server does not know a script by its digest. For garrison itself."""


class ServerRefused(GarrisonError):
    """The server answered with an error that is none of those below.

    Attributes
    ----------
    code : str
        Its first word: ``WRONGTYPE``, ``ERR``, or what a script has chosen.
    text : str
        The words after that.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


_CODES = {
    "AskError": "ASK",
    "AuthenticationError": "WRONGPASS",
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "ExecAbortError": "EXECABORT",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}
"""The codes that the client library has made classes of, and cut off."""
_REFUSED_IN_SCRIPT = ("ACL failure in script", "The user executing the script can't")
"""What the server says if a script may not do something, since Redis 7.2 and before."""
_LATER = {"LOADING": False, "BUSY": False, "TRYAGAIN": False, "ASK": False, "NOREPLICAS": False}
_LATER |= {"READONLY": True, "MASTERDOWN": True, "CLUSTERDOWN": True, "MOVED": True}
_LATER |= {"UNBLOCKED": True}
"""The codes after which a request is repeated, and whether another server may be the one to ask."""


_WHERE_IN_SCRIPT = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.$")


def split_code(error: Exception) -> tuple[str, str]:
    """Return the code of an error reply, and the rest of it."""
    text = _WHERE_IN_SCRIPT.sub("", str(error))
    known = _CODES.get(type(error).__name__)
    if known is not None:
        return known, text.removeprefix(f"{known} ")
    first, _, rest = text.partition(" ")
    if first.isupper():
        return first, rest
    return "ERR", text


def reply_error(url: ValkeyUrl, error: Exception, what: str, key: str = "") -> Exception:
    """Return the exception for an error that the server has replied."""
    code, text = split_code(error)
    if code in _LATER:
        return NotNow(f"{code} {text}", elsewhere=_LATER[code])
    if code == "NOSCRIPT":
        return NoScript(text)
    if code == "OOM":
        return StoreFull(
            f"the server at {url} has no memory left for {what}, and nothing of it was done: "
            "delete entries, or raise its maxmemory"
        )
    if code == "NOPERM" or any(each in f"{code} {text}" for each in _REFUSED_IN_SCRIPT):
        on_key = f" on the key {key!r}" if key else ""
        user = url.user or "default"
        return PermissionError(
            f"the user {user!r} may not do {what}{on_key} at {url}: {text}; its rights are set by: "
            f"ACL SETUSER {user} ~{{{url.prefix}}}:* +@all -@dangerous +info"
        )
    if code in {"NOAUTH", "WRONGPASS"} or _is_about_password(text):
        return _refused_login(url, code, text)
    return ServerRefused(code, text)


def _is_about_password(text: str) -> bool:
    return "without any password configured" in text or "HELLO must be called with" in text


def _refused_login(url: ValkeyUrl, code: str, text: str) -> AuthenticationError:
    if "without any password configured" in text:
        advice = "it has no password for this user: leave it out of the URL"
    elif url.password is None:
        advice = "it asks for a password: valkey://user:password@host, or key=..."
    else:
        advice = f"it does not know the user {url.user or 'default'!r} with this password"
    return AuthenticationError(f"the server at {url} refuses the login ({code}): {advice}")


def connect_error(url: ValkeyUrl, where: str, error: Exception) -> OSError:
    """Return the operating system's error behind one of the client library, with the address."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__ or found.__context__
    name = url.text if where in url.text else f"{where} ({url})"
    if found is None or type(found).__name__ == "TimeoutError":
        return TimeoutError(f"no answer from the server at {name}: {error}")
    reason = found.strerror or str(found)
    advice = "" if "CERTIFICATE" not in str(found) else "; ?ca=FILE names who signed it"
    try:
        return type(found)(found.errno, f"cannot connect to the server at {name}: {reason}{advice}")
    except TypeError:
        return OSError(found.errno, f"cannot connect to the server at {name}: {reason}{advice}")


def broken(error: Exception, *, maybe_done: bool) -> LinkBroken:
    """Return the failure of a connection."""
    return LinkBroken(str(error) or type(error).__name__, maybe_done, False)
