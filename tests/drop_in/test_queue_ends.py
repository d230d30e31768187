"""`queue._reader` can be waited for, as the standard one, whichever process puts and takes."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import queue as standard
import select
import selectors
import signal
import threading
from multiprocessing import util
from multiprocessing.connection import wait
from typing import Any

import pytest

import garrison

METHODS = ("fork", "spawn", "forkserver")
KINDS = ("Queue", "JoinableQueue", "SimpleQueue")
SOON = 10.0


@pytest.fixture(params=KINDS)
def new(request: pytest.FixtureRequest) -> Any:
    """Queues are made in the tests: pytest would keep a fixture's alive."""
    return getattr(garrison, request.param)


def put(queue: Any, *items: Any) -> None:
    for item in items:
        queue.put(item)


def take(queue: Any, taken: Any = None) -> None:
    queue.get()
    if taken is not None:
        taken.set()


def is_readable(reader: Any) -> bool:
    return bool(select.select([reader], [], [], 0)[0])


def run(target: Any, *args: Any, method: str = "fork") -> None:
    process = garrison.get_context(method).Process(target=target, args=args)
    process.start()
    process.join()
    assert process.exitcode == 0
    process.close()


def test_a_reader_is_readable_exactly_while_there_is_an_item(new: Any) -> None:
    queue = new()
    reader = queue._reader
    assert not is_readable(reader)
    for _ in range(3):
        put(queue, 1, 2)
        assert is_readable(reader)
        assert queue.get() == 1
        assert is_readable(reader)
        assert queue.get() == 2
        assert not is_readable(reader)


def test_items_that_were_there_before_are_seen(new: Any) -> None:
    queue = new()
    queue.put(1)
    assert wait([queue._reader], 0) == [queue._reader]


@pytest.mark.parametrize("method", METHODS)
def test_put_of_another_process_makes_the_reader_readable(new: Any, method: str) -> None:
    queue = new()
    reader = queue._reader
    assert wait([reader], 0) == []
    run(put, queue, "here", method=method)
    assert is_readable(reader)
    assert queue.get() == "here"
    assert wait([reader], 0) == []


def put_and_tell(queue: Any, answer: Any) -> None:
    queue.put(1)
    queue.put(2)
    answer.put([str(each) for each in util._finalizer_registry.values()])  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_puts_stays_until_that_is_seen(new: Any, method: str) -> None:
    queue, answer = new(), garrison.SimpleQueue()
    assert wait([queue._reader], 0) == []
    run(put_and_tell, queue, answer, method=method)
    assert sum("_await_watch" in each for each in answer.get()) == 1
    assert is_readable(queue._reader)


def test_an_item_is_seen_before_the_end_of_its_process(new: Any) -> None:
    queue = new()
    reader = queue._reader
    assert wait([reader], 0) == []
    for number in range(100):
        process = garrison.get_context("fork").Process(target=put, args=(queue, number))
        process.start()
        assert reader in wait([reader, process.sentinel])
        assert queue.get() == number
        process.join()
        process.close()


def keep_the_descriptor(queue: Any, kept: Any, end: Any) -> None:
    queue._reader.fileno()
    kept.set()
    end.wait()


@pytest.mark.parametrize("killed", [False, True])
def test_a_process_does_not_wait_for_a_descriptor_that_is_gone(new: Any, killed: bool) -> None:
    queue, kept, end = new(), garrison.Event(), garrison.Event()
    process = garrison.Process(target=keep_the_descriptor, args=(queue, kept, end))
    process.start()
    kept.wait()
    queue.put(1)
    if killed:
        process.kill()
    end.set()
    process.join()
    process.close()
    queue._await_watch(60.0)  # the watchdog ends this
    assert queue.get() == 1


@pytest.mark.parametrize("method", METHODS)
def test_get_of_another_process_clears_the_reader(new: Any, method: str) -> None:
    queue = new()
    reader = queue._reader
    queue.put(1)
    assert is_readable(reader)
    run(take, queue, method=method)
    assert not is_readable(reader)
    queue.put(2)
    assert is_readable(reader)
    queue.get()


def test_a_wait_is_woken_by_an_item_of_another_thread(new: Any) -> None:
    queue = new()
    reader, waiting = queue._reader, threading.Event()

    def late() -> None:
        waiting.wait()
        queue.put(1)

    thread = threading.Thread(target=late)
    thread.start()
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        assert selector.select(0) == []
        waiting.set()
        assert selector.select(SOON)
    thread.join()
    queue.get()


def test_waiting_for_processes_and_queues_at_once(new: Any) -> None:
    queue = new()
    process = garrison.Process(target=put, args=(queue, 1))
    process.start()
    left = [process.sentinel, queue._reader]
    while left:
        for ready in wait(left, SOON):
            left.remove(ready)
    process.join()
    assert queue.get() == 1
    process.close()


def test_asyncio_waits_for_a_queue(new: Any) -> None:
    queue = new()

    async def first() -> Any:
        loop, found = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        loop.add_reader(queue._reader, lambda: found.set_result(queue.get()))
        run(put, queue, "item")
        item = await asyncio.wait_for(found, SOON)
        loop.remove_reader(queue._reader)
        return item

    assert asyncio.run(first()) == "item"


def test_waiting_getter_leaves_the_reader_right(new: Any) -> None:
    """The descriptor's thread sleeps where getters sleep, and takes no wake of theirs."""
    queue = new()
    is_readable(queue._reader)
    got: Any = standard.SimpleQueue()

    def consume() -> None:
        while (item := queue.get()) is not None:
            got.put(item)

    threads = [threading.Thread(target=consume) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(300):
        queue.put(number)
        got.get(timeout=SOON)
    put(queue, None, None, None)
    for thread in threads:
        thread.join()


def wait_in_child(queue: Any, ready: Any) -> None:
    reader = queue._reader
    assert wait([reader], 0) == []
    ready.put("empty")
    assert wait([reader], SOON) == [reader]
    assert queue.get() == "for the child"
    assert wait([reader], 0) == []


def test_a_forked_child_has_a_descriptor_of_its_own(new: Any) -> None:
    queue = new()
    reader, ready = queue._reader, garrison.SimpleQueue()
    assert wait([reader], 0) == []
    number = reader.fileno()
    process = garrison.get_context("fork").Process(target=wait_in_child, args=(queue, ready))
    process.start()
    assert ready.get() == "empty"
    assert reader.fileno() == number
    queue.put("for the child")
    process.join()
    assert process.exitcode == 0
    process.close()
    queue.put("for the parent")
    assert is_readable(reader)
    queue.get()
    assert not is_readable(reader)


def test_descriptors_of_others_are_not_touched() -> None:
    queue = garrison.Queue()
    is_readable(queue._reader)
    pid = os.fork()
    if not pid:
        try:
            os.closerange(queue._reader.fileno(), queue._reader.fileno() + 2)
            mine = os.pipe()
            queue.put(1)
            os._exit(int(is_readable(mine[0])))
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_descriptor_goes_with_its_queue() -> None:
    queue = garrison.Queue()
    number = queue._reader.fileno()
    assert os.fstat(number)
    queue.close()
    del queue
    gc.collect()  # the fixture looks for the thread and the descriptors


def test_a_queue_without_a_descriptor_has_no_thread() -> None:
    queue = garrison.Queue()
    before = set(os.listdir("/proc/self/task"))  # one of an earlier test may be about to end
    queue.put(1)
    assert queue._reader.poll()
    assert queue._reader.recv() == 1
    assert not queue._reader.poll(0.01)
    assert not set(os.listdir("/proc/self/task")) - before
    is_readable(queue._reader)
    assert len(set(os.listdir("/proc/self/task")) - before) == 1


def test_a_killed_getter_leaves_the_descriptor_right(new: Any) -> None:
    queue = new()
    reader = queue._reader
    assert not is_readable(reader)
    process = garrison.Process(target=queue.get)
    process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    queue.put(1)
    assert wait([reader], SOON) == [reader]
    assert queue.get() == 1
    assert not is_readable(reader)
    process.close()


def test_ends_send_and_receive(new: Any) -> None:
    queue = new()
    assert queue._reader is (reader := queue._reader)
    queue._writer.send({"a": 1})
    assert reader.poll(0)
    assert reader.recv() == {"a": 1}
    queue._writer.send_bytes(pickle.dumps([2]))
    assert pickle.loads(reader.recv_bytes()) == [2]
    assert select.select([], [queue._writer], [], 0)[1] == [queue._writer]
    assert (reader.readable, reader.writable) == (True, False)


def test_an_end_that_was_closed_is_used_no_more(new: Any) -> None:
    queue = new()
    queue._writer.close()
    assert queue._writer.closed
    with pytest.raises(OSError, match="closed"):
        queue.put(1)
    with pytest.raises(OSError, match="closed"):
        queue._writer.send(1)
    run(put, queue, 1, method="spawn")
    assert queue.get() == 1
    queue._reader.close()
    for use in (queue._reader.fileno, queue._reader.recv, queue._reader.poll):
        with pytest.raises(OSError, match="handle is closed"):
            use()
    with pytest.raises(OSError, match="closed"):
        queue.get()


def test_closed_queue_raises_the_errors_of_both_kinds(new: Any) -> None:
    queue = new()
    queue.close()
    assert queue._reader.closed
    assert queue._writer.closed
    with pytest.raises(ValueError, match="closed"):
        queue.put(1)
    with pytest.raises(OSError, match="closed"):
        queue.get()


def wait_for_the_parent(queue: Any, at_end: Any) -> None:
    queue._writer.close()
    try:
        queue.get()
    except EOFError:
        at_end.put("the end of the file")


def parent_that_dies(queue: Any, at_end: Any) -> None:
    garrison.get_context("fork").Process(target=wait_for_the_parent, args=(queue, at_end)).start()
    os.kill(os.getpid(), signal.SIGKILL)


def test_reader_ends_when_the_last_writer_is_closed() -> None:
    queue, at_end = garrison.SimpleQueue(), garrison.SimpleQueue()
    process = garrison.Process(target=parent_that_dies, args=(queue, at_end))
    process.start()
    process.join()
    assert at_end.get() == "the end of the file"
    process.close()
