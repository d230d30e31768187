"""The words of a barrier."""

from collections.abc import Callable

from garrison._core.shared_block import SharedBlock

class Barrier:
    """What `garrison.Barrier` is made of."""

    def __init__(self, block: SharedBlock, parties: int) -> None: ...
    def wait(
        self, timeout: float | None = None, action: Callable[[], object] | None = None
    ) -> int | None:
        """Wait for all parties: the number of this one, or nothing if the barrier is broken.

        `action` is called by the last to come.
        """

    def reset(self) -> None:
        """Make it whole and empty; its waiters find it broken."""

    def abort(self) -> None:
        """Break it: its waiters, and later ones, find it broken."""

    @property
    def n_waiting(self) -> int:
        """How many parties wait at the moment."""

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
