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
        changed, now = loop.keys.reload(), ""
    except (OSError, ValueError) as error:
        changed, now = False, str(error)
    if now and now != problem:
        loop.log.warning("the keys stay as they were: %s", now)
    if changed:
        loop.log.info("the keys were read again")
        for session in list(loop.sessions):
            if session.key not in loop.keys:
                session.drop(f"the key {session.key.name!r} was revoked")
    loop.call_later(INTERVAL_S, watch_keys, loop, now or (problem if not changed else ""))
