"""Places in shared memory."""

from garrison._core.process import Id

class SharedBlock:
    """A place in shared memory, alive as long as anybody has it or a view of it."""

    def __init__(self, size: int, /) -> None: ...
    @staticmethod
    def find(chunk: Id, offset: int, size: int) -> SharedBlock | None:
        """What another process has described.

        Nothing if this one would need the descriptors for it.
        """

    @staticmethod
    def attach(
        chunk: tuple[Id, int, int], family: tuple[Id, int], offset: int, size: int
    ) -> SharedBlock:
        """Attach what another process has described. The descriptors stay the caller's."""

    def part(self, offset: int, size: int, readonly: bool = False) -> SharedBlock:
        """A part of it, perhaps not to be written to."""

    @property
    def chunk(self) -> tuple[Id, int, int]:
        """Identity of the chunk, its length, its descriptor here."""

    @property
    def family(self) -> tuple[Id, int]:
        """Identity of the family, its descriptor here."""

    @property
    def offset(self) -> int:
        """Where in its chunk the place begins, in bytes."""

    @property
    def readonly(self) -> bool:
        """Whether views of it refuse to be written to."""

    def export(self) -> None:
        """Keep the memory until as many handles have arrived as were sent."""

    def arrived(self) -> None:
        """A handle has arrived."""

    def forget_exports(self) -> None:
        """Do not wait for handles that were sent and did not arrive."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Block:
    """Bytes in shared memory, as a buffer: nothing is copied, and they stay while anybody looks."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
