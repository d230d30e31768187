"""The table of a pool's tasks and workers."""

from typing import TypedDict

OUTCOME_LOST: int
"""The outcome of a task whose worker died."""
OUTCOME_CORRUPT: int
"""A task's words in shared memory were damaged; with a message."""
OUTCOME_EACH: int
"""The outcome of a chunk whose items have outcomes of their own."""
CAPACITY: int
"""Tasks that a pool can have in flight."""

class SlotInfo(TypedDict):
    """What the table says of one worker."""

    owner_id: int
    pid: int
    over: bool
    retiring: bool
    cell: int | None
    initialized: bool
    tasks: int
    deadline: int
    started: int
    number: int

class Table:
    """Table(slots, region_len, fd=None): create the shared task table, or attach to one."""

    def __init__(self, slots: int, region_len: int, fd: int | None = None) -> None: ...
    @property
    def fd(self) -> int:
        """The descriptor of its file."""

    @property
    def slots(self) -> int:
        """How many workers it has places for."""

    @property
    def region_len(self) -> int:
        """Bytes of each process's heap."""

    @property
    def phase(self) -> int:
        """Where the pool is in its life: a `PoolPhase`."""

    @property
    def broken(self) -> bool:
        """Whether no worker can live."""

    @property
    def finished(self) -> bool:
        """Whether all work is done, and the supervisor has left."""

    @property
    def deaths(self) -> int:
        """Workers that have ended."""

    @property
    def losses(self) -> int:
        """Workers that have died in a task or before their first one."""

    @property
    def retried(self) -> int:
        """Attempts that were made again."""

    @property
    def dozing(self) -> bool:
        """Whether a task with a deadline must wake the supervisor."""

    @property
    def waiting(self) -> int:
        """Tasks that nobody has claimed yet."""

    def enter(self, phase: int) -> None:
        """Move on to a later phase and have every worker look."""

    def slot(self, number: int) -> SlotInfo:
        """A worker's place.

        Who, pid, over, retiring, cell (or None), initialized, tasks, deadline.
        """

    def exit_of(self, owner_id: int) -> int | None:
        """The exit code of an incarnation, if it has ended and not too many have since."""

    def children(self, number: int) -> list[int]:
        """Daemonic children that the worker in this slot has started."""
