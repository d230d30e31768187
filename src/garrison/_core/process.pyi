"""What a process asks of the kernel, and the numbers of processes that belong together."""

from typing import TypeAlias

Id: TypeAlias = tuple[int, int]
"""A number that no other process or chunk of this machine has."""

CRASH_POINTS: list[str]
"""Names of the crash points of this build; a release has none."""

def crash_point(name: str) -> None:
    """Kill this process if the test armed this point. Does nothing in a release."""

def trace_faults(fd: int) -> None:
    """Write down where this process is in native code when it gets a fatal signal.

    Does nothing in a release.
    """

def die_with_parent(parent: int) -> bool:
    """Be killed when the process that forked this one dies. False if it is dead already.

    Linux means the forking *thread*: to be used only by children of single-threaded processes.
    """

def adopt_orphans() -> bool:
    """Become the parent of every orphan among one's descendants, so that none can escape.

    False where the system refuses it, and init gets them.
    """

def poll(descriptors: list[int], milliseconds: float | None = None) -> list[int]:
    """Wait until one of the descriptors can be read, or for so many milliseconds: which can be.

    None are if a signal came, after its handler.
    """

def memory_left(proc: str, cgroups: str) -> int | None:
    """Bytes that the machine and the control groups leave to this process; None if none tells.

    The arguments stand for ``/proc`` and ``/sys/fs/cgroup``.
    """

def ask_for_memory(size: int, what: str) -> None:
    """To be called before shared memory grows by so many bytes: raises if too few are left."""

def send_quietly(fd: int, data: bytes) -> bool:
    """Send what goes at once over a socket; false if nothing did. Never raises SIGPIPE."""

def allot_counter(start: int) -> tuple[Id, int]:
    """A counter for the children of this process, shared with whoever starts some.

    (family, counter).
    """

def next_number(family: Id, counter: int) -> int:
    """The next number of a counter."""

def registry() -> tuple[Id, int]:
    """Return the identity and the descriptor of this process's registry, made if need be.

    Children that are forked from now on have it too.
    """

def join_registry(identity: Id, fd: int, /) -> None:
    """Use another process's registry, unless this one has one.

    The descriptor stays the caller's.
    """

def announce_death() -> None:
    """A process is known to have died: all waiters check whether it was the owner."""

def open_descriptors() -> list[int]:
    """Descriptors that stay open whatever becomes of the objects here.

    As long as the process lives, or until every handle that was sent has arrived.
    """

def memory_file() -> int:
    """Memory as a file without a name: its descriptor."""

def copy_descriptor(pid: int, fd: int) -> int:
    """A copy of another process's descriptor, of the same description.

    Where there is no `/proc`.
    """

def is_memory(fd: int) -> bool:
    """Whether a descriptor stands for a file of a file system that is memory."""

def move_up(fd: int) -> int:
    """Move a descriptor that cannot be checked to a high number, if the limits allow it."""

def is_visible() -> bool:
    """Whether processes of the same user can open what this one has open."""
