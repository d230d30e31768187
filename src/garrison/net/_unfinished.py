"""The messages that have arrived in part: their total is bounded, and each must make progress."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from garrison.net._event_loop import EventLoop
    from garrison.net._session import Session

__all__ = ["UnfinishedMessages"]

CHECK_INTERVAL_S = 1.0
"""Seconds between two checks for messages that make no progress."""


class UnfinishedMessages:
    """The bytes of unfinished messages, by session."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._sizes: dict[Session, int] = {}
        self._check_is_due = False
        self.total: int = 0
        """Bytes of all sessions."""

    def note(self, session: Session, size: int) -> None:
        """Note how many bytes a session has received in part.

        If those of all are too many, the session with the largest part is dropped.
        """
        if size and not self._check_is_due:
            self._check_later()
        self.total += size - self._sizes.pop(session, 0)
        if size:
            self._sizes[session] = size
        most = self._loop.limits.max_unfinished
        while self.total > most:
            largest = max(self._sizes, key=self._sizes.__getitem__)
            size = self._sizes[largest]
            largest.drop(
                f"it has sent {size} bytes of unfinished messages; {most} are the limit of all"
            )

    def forget(self, session: Session) -> None:
        """Forget a session that is closed."""
        self.total -= self._sizes.pop(session, 0)

    def _check_later(self) -> None:
        self._check_is_due = True
        interval = min(CHECK_INTERVAL_S, self._loop.limits.unfinished_message_s)
        self._loop.call_later(interval, self._drop_stalled)

    def _drop_stalled(self) -> None:
        self._check_is_due = False
        seconds = self._loop.limits.unfinished_message_s
        for session in list(self._sizes):
            if session.has_stalled_message(seconds):
                session.drop(
                    f"it has not finished a message, nor sent 1 MiB of it, for {seconds:g} s"
                )
        if self._sizes:
            self._check_later()
