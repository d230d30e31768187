"""The words of a condition."""

from garrison._core.lock import Lock
from garrison._core.shared_block import SharedBlock

class Seat:
    """A place among those who wait, of which any thread of this process may look after."""

class Condition:
    """What `garrison.Condition` is made of, beside its lock."""

    SIZE: int
    def __init__(self, block: SharedBlock, lock: Lock) -> None: ...
    @property
    def place(self) -> tuple[SharedBlock, Lock]:
        """What the same condition is made of again: the arguments."""

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock until a notification, at most `timeout` seconds.

        False after a timeout.
        """

    def _take_seat(self) -> Seat:
        """Begin a wait whose lock any thread acquires again: release the lock."""

    def _wait_in(self, seat: Seat, limit: float) -> bool:
        """Wait at most `limit` seconds in a seat: whether it was notified. It stays taken."""

    def _leave(self, seat: Seat, uses: bool) -> bool:
        """Leave a seat: whether it was notified. An unused notification goes to the next."""

    def notify(self, n: int = 1) -> None:
        """Wake the `n` waiters that have waited longest."""

    def notify_all(self) -> None:
        """Wake all waiters."""

    @property
    def waiting(self) -> int:
        """How many wait at the moment."""
