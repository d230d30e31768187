"""Which of CPython's test classes run, in which parts, and what stands in for them.

A part is a run of its own for each start method: what goes wrong in one tells nothing of another.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Names = tuple[str, ...]
Faces = dict[str, Names]
"""Names by the submodule of `multiprocessing` that has them; an empty one is the package."""

METHODS = ("fork", "spawn", "forkserver")


@dataclass(frozen=True)
class Part:
    """Test classes that run together.

    Parameters
    ----------
    classes
        The names under which CPython makes its classes, with that in its source.
    faces
        What stands in.
    also
        Packages beside garrison whose objects its functions make: a raw value is a plain C object.
    fresh
        Whether a test starts an interpreter that makes such objects.
    children
        Whether a child that is spawned makes such objects.
    checked
        Whether CPython's own look at what is left behind counts.
    """

    classes: dict[str, str]
    faces: Faces
    also: Names = ()
    fresh: bool = False
    checked: bool = True
    children: bool = False
    methods: Names = field(default=METHODS)


_POOL: Faces = {
    "": ("Pool",),
    "pool": ("Pool", "ThreadPool", "AsyncResult", "MaybeEncodingError", "RemoteTraceback", "RUN"),
}
_SHARED: Faces = {
    "": (
        *("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"),
        *("Value", "Array", "RawValue", "RawArray"),
        *("Queue", "JoinableQueue", "SimpleQueue", "Pipe"),
    ),
    "sharedctypes": ("Value", "Array", "RawValue", "RawArray", "copy", "synchronized"),
    "heap": ("Heap", "Arena", "BufferWrapper"),
    "shared_memory": ("SharedMemory", "ShareableList"),
    "managers": ("SharedMemoryManager",),
    "queues": ("Queue", "JoinableQueue", "SimpleQueue"),
    "connection": ("Connection", "Pipe", "wait"),
}


_MANAGERS: Faces = {
    "": (*_SHARED[""], "Pool", "Manager"),
    "managers": (
        *("BaseManager", "SyncManager", "BaseProxy", "RemoteError", "SharedMemoryManager"),
        *("MakeProxyType", "AutoProxy", "Token"),
    ),
    "shared_memory": _SHARED["shared_memory"],
}


def _of_processes(*names: str) -> dict[str, str]:
    return {f"WithProcesses{name}": f"_{name}" for name in names}


def _of_managers(*names: str) -> dict[str, str]:
    return {f"WithManager{name}": f"_{name}" for name in names}


PARTS = {
    "pool": Part(
        {
            **_of_processes("TestPool", "TestPoolWorkerErrors", "TestPoolWorkerLifetime"),
            "TestPoolNotLeakOnFailure": "TestPoolNotLeakOnFailure",
        },
        _POOL,
        fresh=True,
    ),
    # What a test leaves asleep in a thread, nobody can end.
    "threads": Part(
        {"WithThreadsTestPool": "_TestPool"}, _POOL, checked=False, methods=METHODS[:1]
    ),
    "sync": Part(
        _of_processes("TestLock", "TestSemaphore", "TestCondition", "TestEvent", "TestBarrier"),
        _SHARED,
    ),
    "memory": Part(
        _of_processes("TestValue", "TestArray", "TestSharedCTypes", "TestHeap", "TestSharedMemory"),
        _SHARED,
        also=("ctypes", "test"),
        fresh=True,
    ),
    "managers": Part(
        {
            **_of_managers("TestContainers", "TestMyManager", "TestRemoteManager"),
            **_of_managers("TestManagerRestart", "TestLock", "TestSemaphore", "TestCondition"),
            **_of_managers("TestEvent", "TestBarrier", "TestQueue", "TestPool"),
            "TestSyncManagerTypes": "TestSyncManagerTypes",
        },
        _MANAGERS,
        children=True,
    ),
    "queues": Part(
        {
            **_of_processes("TestQueue", "TestConnection", "TestPoll", "TestPollEintr"),
            **_of_processes("TestPicklingConnections", "TestListenerClient"),
            **{name: name for name in ("TestSimpleQueue", "TestWait", "TestInvalidHandle")},
        },
        _SHARED,
    ),
}

NOT_YET = {
    "_TestHeap": "garrison never uses a place twice, so it has no heap to test",
    "_TestConnection": "Pipe is the standard library's own",
    "_TestPoll": "Pipe is the standard library's own",
    "_TestPollEintr": "Pipe is the standard library's own",
    "_TestPicklingConnections": "Pipe is the standard library's own",
    "_TestListenerClient": "connections are the standard library's own",
    "TestWait": "Pipe is the standard library's own",
    "TestInvalidHandle": "connections are the standard library's own",
}
"""Test classes of what garrison does not have, each with the reason; a line goes when it has it."""

LEFT_OUT = {
    "WithManagerTestContainers.test_dict_iter": "iteration walks over a snapshot; nothing that is "
    "changed meanwhile makes it fail",
    "WithManagerTestContainers.test_list_iter": "iteration walks over a snapshot, not over what is "
    "put into the list meanwhile",
    "WithManagerTestContainers.test_dict_proxy_nested": "a plain list in a shared one becomes a "
    "shared one, so that what is written into it is not lost; the test wants it to stay plain",
    "WithManagerTestEvent.test_repr": "there is no EventProxy; the event is shared memory",
    "WithProcessesTestQueue.test_queue_feeder_donot_stop_onexc": "there is no feeder that could "
    "stop: what cannot be pickled raises at put, and is not printed and dropped",
}
"""Single tests that cannot be put to garrison, as Class.test, each with the reason."""


def classes_of(part: str) -> dict[str, str]:
    """The classes of a part that run, by the name under which CPython makes them."""
    chosen = PARTS[part].classes
    return {name: source for name, source in chosen.items() if source not in NOT_YET}


RUNS = {
    f"{part}-{method}": (part, method)
    for part, of_part in PARTS.items()
    if classes_of(part)
    for method in of_part.methods
}
"""A process for each."""
