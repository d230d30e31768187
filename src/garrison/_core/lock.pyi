"""The word of a lock."""

from collections.abc import Callable

from garrison._core.shared_block import SharedBlock

class Lock:
    """What `garrison.Lock` and `garrison.RLock` are made of."""

    def __init__(
        self,
        block: SharedBlock,
        offset: int,
        recursive: bool,
        on_abandon: int,
        detects: bool = False,
    ) -> None: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take the lock; False if it could not be had in time."""

    def recover(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take the lock although its owner died holding it, without a warning or an error."""

    def quick(
        self,
    ) -> tuple[Callable[..., bool], Callable[[], None], Callable[[], bool], Callable[..., None]]:
        """`acquire`, `release`, `__enter__` and `__exit__`, made to be called often."""

    def release(self) -> None:
        """Release the lock."""

    def locked(self) -> bool:
        """Whether any process holds it."""

    def __enter__(self) -> bool: ...
    def __exit__(self, *args: object) -> None: ...
    @property
    def place(self) -> tuple[SharedBlock, int, bool, int, bool]:
        """What the same lock is made of again: the arguments."""

    @property
    def recursive(self) -> bool:
        """Whether its owner may acquire it again."""

    @property
    def abandoned(self) -> bool:
        """Whether the last acquisition by this process took it from an owner that had died."""

    @property
    def holder(self) -> tuple[int, int, float, str] | None:
        """(pid, thread, seconds, where) of the owner, or nothing."""

    @property
    def number(self) -> int:
        """The number by which waits name it."""

    def _is_mine(self) -> bool:
        """Whether the calling thread holds it."""

    def _get_value(self) -> int:
        """As the standard library's own objects ask theirs: 1 if it is free, else 0."""

    def _is_zero(self) -> bool:
        """As the standard library's own objects ask theirs: whether it is held."""

    kind: int
    maxvalue: int
    handle: int
    name: None
    def _count(self) -> int:
        """How often this process has taken it."""
