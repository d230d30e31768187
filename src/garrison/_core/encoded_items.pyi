"""Items of an `imap` on their way into cells."""

from collections.abc import Callable, Iterator
from typing import Any

class EncodedItems:
    """EncodedItems(pickle, buffers): an item and its large buffers, which is alone in its cell.

    An `ItemBuffer` gives several items, whose slices are the same.
    """

    def __init__(self, pickle: bytes, buffers: list[Any] | None) -> None: ...
    def __len__(self) -> int:
        """Return the number of items."""

    def __getitem__(self, items: slice) -> EncodedItems:
        """Return some of several items in a row."""

class ItemBuffer:
    """ItemBuffer(encode, size, shares): encodes items of an input as they are read, and keeps them.

    Small plain items are encoded by the core. `encode` returns any other one's pickle, or an object
    that stands for it: `EncodedItems` with buffers, or an error. If it `shares` cells on its own
    account, large items have cells of their own.
    """

    size: int
    """Items that share a cell."""

    def __init__(self, encode: Callable[[Any], Any], size: int, shares: bool) -> None: ...
    def __len__(self) -> int:
        """Return the number of items that were read and not taken."""

    def read(self, source: Iterator[Any], limit: int, most: int, slow: int) -> tuple[bool, bool]:
        """Read until there are `limit` or `size` more items.

        Or until they have `most` bytes, or an item takes longer than `slow` nanoseconds. Returns
        whether the input may have more, and whether it is slow. After an exception, also of the
        input, the items so far are there.
        """

    def move_to(self, pieces: Any) -> None:
        """Move all that was read to the end of a list or a deque, in its order.

        The pieces are `EncodedItems`, and what `encode` has returned. An interrupt comes before it
        or after it.
        """
