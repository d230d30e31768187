"""Programs under a limit of their own process, for `test_limits`: `limited.py METHOD PROGRAM`."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import garrison

MEGABYTE = 1 << 20


def size() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def limit(kind: int, soft: int) -> None:
    """Set a soft limit."""
    resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))


def limit_to(more: int) -> None:
    """Allow so much address space beyond what there is."""
    limit(resource.RLIMIT_AS, size() + more)


def square(number: int) -> int:
    """Return the square."""
    return number * number


def error_of(call: Any, *args: Any) -> str:
    """Return the name of what a call raises."""
    try:
        call(*args)
    except Exception as error:
        return type(error).__name__
    return "nothing"


def work(pool: Any) -> None:
    """Do with a pool what programs do."""
    assert pool.map(square, range(1000)) == [n * n for n in range(1000)]
    assert sum(pool.imap_unordered(square, range(1000))) == sum(n * n for n in range(1000))
    assert len(pool.apply(bytes, (8 * MEGABYTE,))) == 8 * MEGABYTE
    assert pool.apply(len, (bytes(8 * MEGABYTE),)) == 8 * MEGABYTE


def fill(queue: Any, shared: Any, value: Any, array: Any) -> None:
    """Use everything that is shared, in a child."""
    queue.put(bytes(8 * MEGABYTE))
    queue.put("small")
    shared["child"] = "x" * MEGABYTE
    value.value += 1
    array[999] = 2.5


def everything(context: Any) -> None:
    """Use a pool, a queue, shared memory and a manager."""
    with context.Pool(2) as pool:
        work(pool)
    queue, value, array = context.Queue(), context.Value("i", 1), context.Array("d", 1000)
    with context.Manager() as manager:
        shared, items = manager.dict(), manager.list()
        child = context.Process(target=fill, args=(queue, shared, value, array))
        child.start()
        assert (len(queue.get()), queue.get()) == (8 * MEGABYTE, "small")
        child.join()
        assert (child.exitcode, len(shared["child"])) == (0, MEGABYTE)
        assert (value.value, array[999]) == (2, 2.5)
        for _ in range(40):
            items.append(bytes(MEGABYTE))
        assert (len(items), len(items[39])) == (40, MEGABYTE)


def program_address_space(context: Any) -> None:
    """Everything in 400 MB of address space."""
    limit(resource.RLIMIT_AS, 400 * MEGABYTE)
    everything(context)


def program_data(context: Any) -> None:
    """Everything in 200 MB of data."""
    limit(resource.RLIMIT_DATA, 200 * MEGABYTE)
    everything(context)


def program_file_size(context: Any) -> None:
    """Everything with files of 4 KiB."""
    limit(resource.RLIMIT_FSIZE, 4096)
    everything(context)


def program_descriptors(context: Any) -> None:
    """Everything with 64 descriptors."""
    limit(resource.RLIMIT_NOFILE, 64)
    everything(context)


def program_locked_memory(context: Any) -> None:
    """Everything with no memory that may be locked."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    everything(context)


def program_after_the_pool(context: Any) -> None:
    """A pool that is limited when it is there already."""
    with context.Pool(2) as pool:
        limit_to(64 * MEGABYTE)
        work(pool)


def program_initializer(context: Any) -> None:
    """Workers that limit themselves: what does not fit is the task's error, the rest goes on."""
    for more in (0, 4 * MEGABYTE):
        with context.Pool(2, limit_to, (more,)) as pool:
            assert pool.map(square, range(1000)) == [n * n for n in range(1000)]
            # Without any more memory it depends on what the allocator has left from the imports.
            fits = ("nothing",) if more else ("nothing", "MemoryError")
            assert error_of(pool.apply, len, (bytes(100_000),)) in fits
            for _ in range(3):
                assert error_of(pool.apply, bytes, (64 * MEGABYTE,)) == "MemoryError"
                assert error_of(pool.apply, len, (bytes(64 * MEGABYTE),)) == "SharedMemoryFull"
            assert pool.map(square, range(1000)) == [n * n for n in range(1000)]
            assert pool.statistics().deaths == 0


def program_result(context: Any) -> None:
    """A result for which the parent has no address space, and can have again."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with context.Pool(2) as pool:
        pool.apply(square, (1,))
        limit_to(16 * MEGABYTE)
        large = pool.apply_async(bytes, (64 * MEGABYTE,))
        assert error_of(large.get) in {"SharedMemoryFull", "MemoryError"}
        assert pool.map(square, range(1000)) == [n * n for n in range(1000)]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        work(pool)


def program_queue(context: Any) -> None:
    """An item for which there is no address space stays in its queue."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    queue = context.Queue()
    child = context.Process(target=queue.put, args=(bytes(64 * MEGABYTE),))
    child.start()
    child.join()
    queue.put("small")
    limit_to(16 * MEGABYTE)
    assert error_of(queue.get) == "SharedMemoryFull"
    assert queue.qsize() == 2
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    assert (len(queue.get()), queue.get()) == (64 * MEGABYTE, "small")


def grow(items: Any) -> None:
    """Make a store much longer than whoever made it has mapped."""
    for _ in range(50):
        items.append(bytes(MEGABYTE))


def program_store(context: Any) -> None:
    """A store grows in several processes, and up to the limit."""
    with context.Manager() as manager:
        items = manager.list(["first"])
        child = context.Process(target=grow, args=(items,))
        child.start()
        child.join()
        assert (len(items), len(items[50])) == (51, MEGABYTE)
        limit_to(64 * MEGABYTE)
        assert error_of(lambda: [items.append(bytes(MEGABYTE)) for _ in range(200)]) == "StoreFull"
        assert 51 < len(items) < 200
        del items[50:]
        items.append("last")
        assert (items[0], items[-1], len(items)) == ("first", "last", 51)


def tell_size(_: int) -> int:
    """Return the worker's own size."""
    return size()


def program_size(context: Any) -> None:
    """A process that uses garrison is not much larger than one that does not."""
    before = size()
    with context.Pool(2) as pool:
        assert max(pool.map(tell_size, range(4))) < before + 64 * MEGABYTE
    queue, manager = context.Queue(), context.Manager()
    queue.put(manager.dict({1: 2}))
    assert queue.get()[1] == 2
    manager.shutdown()
    assert size() < before + 64 * MEGABYTE


if __name__ == "__main__":
    globals()[f"program_{sys.argv[2]}"](garrison.get_context(sys.argv[1]))
