"""The contract between a pool and the backend that runs its tasks.

`ProcessBackend` and `ThreadBackend` implement it. Pools, results and the iterators of `imap` use
nothing else of a backend, so a third one (a cluster, say) is a class with these methods.

Registered functions, tasks, encoded items and raw results are opaque: users of a backend keep them,
and pass them to the same backend.
"""

from __future__ import annotations

from typing import Any, Protocol

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.options import Options
    from garrison.pool._payload_kinds import PayloadKind

__all__ = [
    "Backend",
    "EncodedItems",
    "ItemBuffer",
    "RegisteredFunction",
    "RunningTasks",
    "TaskHandle",
]


class RegisteredFunction(Protocol):
    """A function that the workers can be asked to run."""

    @property
    def size(self) -> int:
        """Bytes that are unpickled again for each task; 0 if the workers keep the function."""


class TaskHandle(Protocol):
    """A task that was submitted."""

    @property
    def size(self) -> int:
        """Bytes of its arguments."""

    @property
    def result_size(self) -> int:
        """Bytes of an ended task's pickled result; 0 if they are few, or nothing is pickled."""

    @property
    def ended_at(self) -> int:
        """When it ended: nanoseconds of a monotonic clock, to tell which task ended first."""

    def ended(self) -> bool:
        """Whether it has ended: it has a result, or will never have one."""

    def lost(self) -> bool:
        """Whether its worker ended before the task: the result is `WorkerDied` or the like."""

    def running(self) -> bool:
        """Whether a worker has begun it, and not ended it."""

    def take_into(self, result: Any) -> None:
        """Take the result of the ended task into an `AsyncResult`, before any interrupt.

        Its ``_outcome`` is set to (success, value) if that is known, else ``_raw`` to the raw
        result.

        Raises
        ------
        RuntimeError
            If it was taken already.
        """

    def take_items_into(self, batch: Any) -> None:
        """Take the results of an ended task of items into a batch, before any interrupt.

        Its ``brought`` becomes (results, raw, bytes, nanoseconds). One of the first two is None:
        `results` are for `Backend.decode_items`, and `raw` is the result of the task as a whole,
        for `Backend.decode`. No code of the user runs.

        Raises
        ------
        RuntimeError
            If they were taken already.
        """

    def withdraw(self) -> bool:
        """Withdraw it; return whether no worker had begun it."""

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not well; its result was not taken."""

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled: it has ended, and has no result."""


class EncodedItems(Protocol):
    """Items as they are submitted; a slice of several is a part of them."""

    def __len__(self) -> int:
        """Return the number of items."""


class ItemBuffer(Protocol):
    """Encodes the items of an input as they are read, and keeps them until they are taken."""

    size: int
    """Items that may share a task."""

    def __len__(self) -> int:
        """Return the number of items that were read and not taken."""

    def read(self, source: Any, limit: int, most: int, slow: int) -> tuple[bool, bool]:
        """Read items; return whether there may be more, and whether the input is slow.

        Parameters
        ----------
        source : iterator
            The input.
        limit, most : int
            Items, and bytes, to read.
        slow : int
            Nanoseconds for an item from which the input is slow.
        """

    def move_to(self, pieces: Any) -> None:
        """Move all items, in their order, to the end of a list or a deque.

        They are `EncodedItems`; an error stands for an item. An interrupt comes before it or after
        it.
        """


class RunningTasks(Protocol):
    """Tasks that are watched together."""

    def __len__(self) -> int:
        """Return the number of tasks that were not collected."""

    def add(self, task: Any, value: object) -> None:
        """Watch a task until it is collected; `value` is what `collect` gives for it."""

    def collect(self, ended: Any) -> bool:
        """Move the values of ended tasks to the end of a list or deque; whether there were any.

        They come in the order in which the tasks ended. An interrupt comes before it or after it.
        """


class Backend(Protocol):
    """Runs tasks elsewhere: submitted in one thread, waited for in any."""

    @property
    def parallelism(self) -> int:
        """Tasks that run at the same time."""

    @property
    def tasks_ahead(self) -> int:
        """Tasks that `imap` has waiting or at work at the same time."""

    @property
    def batches_items(self) -> bool:
        """Whether `imap` may put several small items into one task, each with its own result."""

    @property
    def runs_in_caller(self) -> bool:
        """Whether `submit` runs the task in the caller's thread, and no other thread may."""

    @property
    def waiting(self) -> int:
        """Tasks that no worker has begun."""

    @property
    def busy(self) -> int:
        """Workers that are in a task."""

    @property
    def handles_sent(self) -> int:
        """A number that grows with each handle of a shared object that is sent to a worker."""

    @property
    def interrupts(self) -> int:
        """The number of calls of `interrupt_waits`; read it before deciding what to wait for."""

    def state(self) -> dict[str, Any]:
        """Return the fields of `Statistics`."""

    def members(self) -> list[Any]:
        """Return the processes or threads that run tasks, if this program has objects for them."""

    # --- Tasks ----------------------------------------------------------------------------

    def check_options(self, options: Options) -> None:
        """Check options before a task has them.

        Raises
        ------
        ValueError
            If one is set that this backend cannot keep.
        """

    def register(self, function: Callable[..., Any], options: Options) -> RegisteredFunction:
        """Make a function known to the workers, for any number of tasks.

        Raises
        ------
        Exception
            If it cannot be sent.
        """

    def plain_calls(self, options: Options) -> Callable[..., Any] | None:
        """Return a function that submits the simplest tasks, or None if there is none.

        It takes the callable, and kind, value and items as `submit` does. It returns the task, or
        None for one that `register` and `submit` must submit.
        """

    def submit(
        self, function: Any, kind: PayloadKind, value: Any, options: Options, items: int = 1
    ) -> TaskHandle:
        """Submit a task of a registered function.

        Parameters
        ----------
        function : RegisteredFunction
            What `register` returned.
        kind, value : PayloadKind, object
            How the function is applied, and to what.
        options : Options
            Timeout and retries.
        items : int
            Number of items in `value`.

        Raises
        ------
        Exception
            If the value cannot be sent.
        """

    def item_buffer(self, chunksize: int) -> ItemBuffer:
        """Return a buffer that encodes items: later changes of an item do not count.

        With a `chunksize` of 1, each may be a task of its own.
        """

    def submit_items(self, function: Any, items: Any, options: Options) -> TaskHandle:
        """Submit one task for `EncodedItems`, each with a result of its own."""

    def encode_chunk(self, items: list[Any]) -> Any:
        """Return several items as `submit_chunk` takes them: what they share arrives shared.

        Raises
        ------
        Exception
            If one of them cannot be sent.
        """

    def submit_chunk(self, function: Any, chunk: Any, count: int, options: Options) -> TaskHandle:
        """Submit one task for an encoded chunk, each of its items with a result of its own."""

    def cancel(self, task: Any, grace: float) -> bool:
        """Withdraw a task, or end it while it runs; return whether it has no result now.

        It counts as ended at once. Where it cannot be ended while it runs, False is returned and it
        goes on.

        Parameters
        ----------
        task : TaskHandle
            The task.
        grace : float
            Seconds from the interrupt of a running task to the end of its worker.
        """

    @property
    def latest(self) -> int:
        """The task that this thread has submitted last, as a number."""

    def cancel_latest(self, since: int, grace: float) -> None:
        """Cancel the task that this thread has submitted last, if it was submitted since then.

        An interrupt may have come before the caller of `submit` had it.
        """

    # --- Waiting --------------------------------------------------------------------------

    def wait(self, task: Any, deadline: float | None) -> bool:
        """Wait for a task's end; False at the deadline (of `time.monotonic`).

        Raises
        ------
        GarrisonError
            If it will never end.
        """

    @property
    def failures(self) -> int:
        """The number of tasks that have failed so far."""

    def wait_unless_failure(self, task: Any, deadline: float | None, failures: int) -> bool:
        """Wait for a task's end, or another failure; False at the deadline."""

    def running_tasks(self, tasks: Iterable[Any] = ()) -> RunningTasks:
        """Return tasks to watch together."""

    def wait_any(self, tasks: Any, deadline: float | None, interrupts: int) -> bool:
        """Wait for the end of one of these `RunningTasks`, or another interrupt.

        False at the deadline.
        """

    def wait_any_for(self, tasks: Any, seconds: float) -> None:
        """Wait until one of these tasks has ended, an interrupt comes, or time is over."""

    def interrupt_waits(self) -> None:
        """Make `wait_any` and `wait_any_for` return."""

    def check(self) -> None:
        """Raise if no task will ever end any more."""

    # --- Results --------------------------------------------------------------------------

    def result(self, task: Any) -> tuple[Any, ...]:
        """Take an ended task's result: (success, value or exception, nanoseconds).

        For a failure there may be a fourth: the `Facts` of it.

        Raises
        ------
        RuntimeError
            If it was taken already, or is being taken by another thread.
        """

    def decode(self, raw: Any) -> tuple[Any, ...]:
        """Decode a raw result: (success, value or exception, nanoseconds).

        For a failure there may be a fourth: the `Facts` of it.
        """

    def decode_items(self, encoded: list[Any]) -> list[Any]:
        """Decode results of items; a failed one is an `ItemError`."""

    # --- Tasks of several items, where `batches_items` ---------------------------------------

    def finished_items(self, task: Any) -> list[Any]:
        """Return the encoded results so far of a running or lost task."""

    def failed_item(self, task: Any) -> int:
        """Return the index of the item during which a lost task's worker ended."""

    def has_begun(self, task: Any) -> bool:
        """Whether an item of an ended chunk was begun: else its items could not be decoded."""

    def recall_items(self, task: Any) -> int:
        """Withdraw the items that the worker has not begun; return the number of the others."""

    def show_output(self) -> Any:
        """Return the `LogReader` of the tasks' output; None where they write to the program's own.

        Called before a function is registered with the option `logs`.
        """

    def finalizer_values(self) -> list[Any]:
        """Return what the finalizers of workers have returned so far."""

    # --- Life -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers."""

    def close(self) -> None:
        """Let the workers end once there is no more work."""

    def join(self, seconds: float) -> bool:
        """Wait for the workers to end; True when they have."""

    def stop(self) -> None:
        """End the workers now, as far as that is possible."""
