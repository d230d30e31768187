"""Scans of containers."""

from typing import Any

class Scan:
    """A scan of a container; see `Store.scan`."""

    def next(self, n: int) -> list[Any]:
        """The next entries, so many at most; none if it is over."""

    def close(self) -> None:
        """Let go of what has not been read."""

    def __iter__(self) -> Scan: ...
    def __next__(self) -> Any: ...
