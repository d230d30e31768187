"""The side of a pool that outlives its workers."""

from garrison._core.table import Table

class Supervisor:
    """Supervisor(table): the side that outlives workers."""

    def __init__(self, table: Table) -> None: ...
    @property
    def owner_id(self) -> int:
        """The number of this process as an owner."""

    def enlist(self, slot: int, number: int = 0) -> int:
        """Enter a new process in a slot, before it exists: its owner id.

        `number` is in its name.
        """

    def set_pid(self, slot: int, pid: int) -> None:
        """Store the process id of the worker in a slot."""

    def free_slot(self, slot: int, *, lost: bool = True, exitcode: int = ...) -> None:
        """The process in this slot is dead, and its tasks are dealt with."""

    def note_exit(self, slot: int, exitcode: int) -> None:
        """How the worker in this slot has ended, at the end of the pool."""

    def held_by(self, owner_id: int) -> list[int]:
        """The cells that this process owns."""

    def stranded(self) -> tuple[list[tuple[int, int]], list[int]]:
        """What a dead supervisor left behind.

        Cells of dead workers, and requeued ones in no ring.
        """

    def task(self, number: int) -> dict[str, int]:
        """A task as far as a decision needs it.

        Function, kind, index, items, retries and deaths.
        """

    def requeue(self, number: int, attempts: int) -> bool:
        """CLAIMED by a dead worker → READY again.

        So many deaths are now charged to its present item. False if that task was cancelled: it is
        CLAIMED still.
        """

    def enqueue_retry(self, number: int) -> bool:
        """Put a cell into the ring of second attempts."""

    def mark_lost(self, number: int, reason: bytes) -> None:
        """CLAIMED by a dead worker → LOST, with the reason."""

    def is_late(self, slot: int, owner_id: int) -> bool:
        """Whether this worker is past its deadline in the very task it had then."""

    @property
    def cancels(self) -> int:
        """How many running tasks were ever cancelled."""

    def cancelled(self, slot: int, owner_id: int) -> tuple[int, int] | None:
        """Whether this worker is at a task that was cancelled.

        A number that is only this task's, and the nanoseconds that it may go on.
        """

    def deadlines(self) -> tuple[int, int]:
        """Return the earliest deadline of all workers and the shortest timeout of all tasks.

        Both in nanoseconds; 0 if there is none.
        """

    def extend_deadline(self, slot: int, nanoseconds: int) -> None:
        """The worker in this slot was stopped: give its task so many nanoseconds more."""

    def claims(self) -> int:
        """How many tasks were ever claimed: unchanged means that none has begun in between."""

    def set_dozing(self, dozing: bool) -> None:
        """Say whether a task with a deadline must wake this process."""

    def set_stopped(self, count: int) -> None:
        """Workers that a signal has stopped."""

    def give_up(self) -> None:
        """No worker can live: the pool is broken."""

    def finish(self) -> None:
        """All work is done: this process leaves, and needs no successor."""
