"""The word of a semaphore."""

from garrison._core.shared_block import SharedBlock

class Semaphore:
    """What `garrison.Semaphore` and `garrison.BoundedSemaphore` are made of."""

    def __init__(
        self, block: SharedBlock, value: int | None = None, most: int = 2147483647, places: int = 0
    ) -> None: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take a permit; False if none could be had in time."""

    def release(self) -> None:
        """Give a permit back."""

    def get_value(self) -> int:
        """How many permits there are at the moment."""

    @property
    def place(self) -> tuple[SharedBlock, None, int, int]:
        """What the same semaphore is made of again: the arguments."""

    def _get_value(self) -> int:
        """As the standard library's own objects ask theirs."""

    def _is_zero(self) -> bool:
        """As the standard library's own objects ask theirs: whether there is no permit."""

    kind: int
    maxvalue: int
    handle: int
    name: None
    def _is_mine(self) -> bool:
        """As the standard library's own objects ask theirs: whether this process has a permit."""

    def _count(self) -> int:
        """How many permits this process has taken, as far as that is known."""

    def locked(self) -> bool:
        """Whether there is no permit at the moment."""

    def __enter__(self) -> bool: ...
    def __exit__(self, *args: object) -> None: ...
    @property
    def holders(self) -> list[tuple[int, int]]:
        """The processes that hold permits which are signed for: (pid, permits)."""

    @property
    def number(self) -> int:
        """The number by which waits name it."""
