"""Takes a change of a server's file of keys into account, within a second."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from garrison.net._event_loop import EventLoop

__all__ = ["watch_keys"]

INTERVAL_S = 1.0


def watch_keys(loop: EventLoop, problem: str = "") -> None:
    """Read the file again if it has changed, now and every second; `problem` was logged last."""
    try:
        problem = _reload(loop, problem)
    finally:
        loop.call_later(INTERVAL_S, watch_keys, loop, problem)


def _reload(loop: EventLoop, problem: str) -> str:
    """Take the keys as they are now; return what was logged."""
    try:
        wrong = loop.keys.reload()
    except (OSError, ValueError) as error:
        if str(error) != problem:
            loop.log.warning("the keys stay as they were: %s", error)
        return str(error)
    if wrong is None:
        return problem
    loop.log.info("the keys were read again")
    for text in wrong:
        loop.log.warning("%s: it allows nothing", text)
    for session in list(loop.sessions):
        if session.key not in loop.keys:
            session.drop(f"the key {session.key.name!r} was revoked")
    return ""
