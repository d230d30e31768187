"""The commands of a pipeline: what is sent for them, and which reply belongs to which."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager.valkey._errors import NoScript, NotNow, reply_error
from garrison.manager.valkey._script import Script

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from garrison.manager.valkey._url import ValkeyUrl

    Command = tuple[Any, ...]
    About = tuple[str, str, str]

__all__ = ["executed", "not_now", "text_of", "unfolded"]


def unfolded(
    known: Container[str], commands: Sequence[Any]
) -> tuple[list[Command], list[Command], list[About]]:
    """Return what loads unknown scripts, the commands, and for each: its name, key and digest."""
    unknown: dict[str, Command] = {}
    sent: list[Command] = []
    about: list[About] = []
    for each in commands:
        script = each[0]
        if not isinstance(script, Script):
            sent.append(each)
            about.append((str(script), text_of(each[1]) if len(each) > 1 else "", ""))
            continue
        _, keys, args = each
        if script.digest not in known:
            unknown[script.digest] = ("SCRIPT", "LOAD", script.source)
        sent.append(("EVALSHA", script.digest, len(keys), *keys, *args))
        about.append((script.name, text_of(keys[0]) if keys else "", script.digest))
    return list(unknown.values()), sent, about


def not_now(error: NotNow | NoScript) -> NotNow:
    """Return what repeats a pipeline of which nothing was done."""
    return error if isinstance(error, NotNow) else NotNow(str(error), elsewhere=False)


def text_of(key: Any) -> str:
    """Return a key as it is shown."""
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)


def executed(url: ValkeyUrl, replies: list[Any], about: Sequence[About]) -> list[Any]:
    """Return the replies of a transaction of the server, or raise why there was none."""
    *queued, done = replies
    for reply, (what, key, _) in zip(queued, about, strict=True):
        if isinstance(reply, Exception):
            raise reply_error(url, reply, what, key)
    if isinstance(done, Exception):
        raise reply_error(url, done, "EXEC")
    return list(done)
