"""The word of an event."""

from garrison._core.shared_block import SharedBlock

class Event:
    """What `garrison.Event` is made of."""

    def __init__(self, block: SharedBlock) -> None: ...
    @property
    def place(self) -> tuple[SharedBlock]:
        """What the same event is made of again: the arguments."""

    def is_set(self) -> bool:
        """Whether it is set."""

    def set(self) -> None:
        """Set it, and wake all waiters."""

    def clear(self) -> None:
        """Clear it: later waits block."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; return whether it is."""

    def _times(self) -> int:
        """How often it was set, for `_wait_since`."""

    def _wait_since(self, since: int, limit: float) -> bool:
        """Wait at most `limit` seconds until it is set, or was more often than `since`."""
