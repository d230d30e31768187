"""Descriptors that are checked before they are used."""

class Descriptor:
    """A descriptor that is checked to be ours before it is used, or closed."""

    def __init__(self, fd: int, /) -> None: ...
    def fileno(self) -> int:
        """The number, to be used now."""

    def reopen(self) -> int:
        """A descriptor of a description of one's own."""

    def close(self) -> None:
        """Close it, unless the number is another file's by now."""

    @property
    def is_ours(self) -> bool:
        """Whether the number still stands for the file it was given for."""

    @property
    def number(self) -> int:
        """The number, whatever it stands for by now."""

    @property
    def mark(self) -> tuple[int, int]:
        """What the file is known by on this machine: device and inode."""
