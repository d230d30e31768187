"""Arguments and results of tasks: pickled as by the standard library's pickler, in one pass."""

from __future__ import annotations

import copyreg
import functools
import os
import pickle
import socket
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import connection, reduction, resource_sharer
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import ArgumentUnpicklable, Pool


@pytest.fixture(autouse=True)
def _no_sharer_is_left() -> Iterator[None]:
    """End the thread of this process that hands descriptors out."""
    yield
    resource_sharer.stop()


# --- Descriptors ------------------------------------------------------------------------------


def report(writer: Any, number: int) -> int:
    writer.send(("progress", number))
    return number


def say(end: socket.socket) -> str:
    end.sendall(b"hello")
    end.close()
    return "sent"


def write_into(duplicate: Any) -> int:
    with os.fdopen(duplicate.detach(), "wb") as file:
        return file.write(b"by a duplicate")


def identity(value: Any) -> Any:
    return value


def a_pipe() -> Any:
    reader, writer = garrison.Pipe(duplex=False)
    writer.send("from a task")
    return reader


def raise_with(end: Any) -> None:
    raise RuntimeError("it has an end", end)


def test_connections_go_to_tasks(context: Any) -> None:
    with context.Pool(1) as pool:
        pipes = [garrison.Pipe() for _ in range(3)]
        assert pool.starmap(report, [(w, i) for i, (_, w) in enumerate(pipes)]) == [0, 1, 2]
        assert [pipe[0].recv() for pipe in pipes] == [("progress", i) for i in range(3)]
        reader, writer = garrison.Pipe(duplex=False)
        assert list(pool.imap(len, [[writer], "ab"])) == [1, 2]
        assert pool.map(abs, [-2]) == [2]
        for end in (reader, writer, *(end for pipe in pipes for end in pipe)):
            end.close()


def test_connections_come_back_from_tasks(context: Any) -> None:
    with context.Pool(1) as pool, pool.apply(a_pipe) as reader:
        assert reader.recv() == "from a task"


def test_an_exception_may_hold_a_connection() -> None:
    one, two = garrison.Pipe()
    with Pool(1) as pool, one, two:
        with pytest.raises(RuntimeError) as caught:
            pool.apply(raise_with, (two,))
        with caught.value.args[1] as end:
            end.send("still open")
        assert one.recv() == "still open"


def test_connections_of_listeners_go_to_tasks() -> None:
    with (
        connection.Listener() as listener,
        connection.Client(listener.address) as client,
        listener.accept() as accepted,
        Pool(1) as pool,
    ):
        assert pool.apply(report, (client, 7)) == 7
        assert accepted.recv() == ("progress", 7)


def test_sockets_go_to_tasks(context: Any) -> None:
    one, two = socket.socketpair()
    with context.Pool(1) as pool, one, two:
        assert pool.apply(say, (two,)) == "sent"
        assert one.recv(5) == b"hello"


def test_duplicates_of_descriptors_go_to_tasks(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool, (tmp_path / "file").open("wb") as file:
        assert pool.apply(write_into, (reduction.DupFd(file.fileno()),)) == 14
    assert (tmp_path / "file").read_bytes() == b"by a duplicate"


def ends_of_initializer(*ends: Any) -> None:
    for end in ends:
        end.send(os.getpid())


def test_connections_go_to_initializers(context: Any) -> None:
    one, two = garrison.Pipe()
    with one, two, context.Pool(1, ends_of_initializer, (two,)) as pool:
        assert one.recv() == pool.apply(os.getpid)


def test_connections_go_through_queues() -> None:
    queue = garrison.Queue()
    with Pool(1, queue_of_initializer, (queue,)) as pool:
        reader, writer = garrison.Pipe(duplex=False)
        waiting = pool.apply_async(send_into_next)
        with reader, writer:
            queue.put({"end": writer})
            assert waiting.get() == "sent"
            assert reader.recv() == "through a queue"


def queue_of_initializer(given: Any) -> None:
    global queue  # noqa: PLW0603 - what initializers do
    queue = given


queue: Any = None


def send_into_next() -> str:
    with queue.get()["end"] as end:
        end.send("through a queue")
    return "sent"


def test_a_function_with_a_connection_goes_to_several_workers(context: Any) -> None:
    reader, writer = garrison.Pipe(duplex=False)
    with context.Pool(3) as pool, reader, writer:
        for _ in range(2):
            pool.map(lambda n: writer.send(n), range(9), chunksize=1)  # noqa: PLW0108 - by value
            assert sorted(reader.recv() for _ in range(9)) == list(range(9))
        cls = type("Local", (), {"end": writer, "say": lambda self: self.end.send("said")})
        pool.map(say_it, [cls() for _ in range(9)], chunksize=1)
        assert [reader.recv() for _ in range(9)] == ["said"] * 9


def say_it(thing: Any) -> None:
    thing.say()


def test_descriptors_of_functions_do_not_pile_up() -> None:
    reader, writer = garrison.Pipe(duplex=False)
    with Pool(1) as pool, reader, writer:
        pool.apply(lambda: writer.send(1))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            pool.apply(lambda: writer.send(1))
        assert len(os.listdir("/proc/self/fd")) == before


def test_kept_pickle_can_be_read_again() -> None:
    reader, writer = garrison.Pipe(duplex=False)
    with garrison.Manager() as manager, garrison.share({"end": writer}) as shared, reader, writer:
        stored = manager.dict(end=writer)
        for make in (lambda: stored["end"], lambda: shared.get()["end"]):
            for _ in range(2):
                with make() as end:
                    end.send("by a reader")
        with Pool(2) as pool:
            pool.map(say_through, [(stored, shared)] * 2, chunksize=1)
        assert [reader.recv() for _ in range(8)] == ["by a reader"] * 8


def say_through(both: Any) -> None:
    stored, shared = both
    for end in (stored["end"], shared.get()["end"]):
        with end:
            end.send("by a reader")


# --- Reducers that are registered later -------------------------------------------------------


class Registered:
    def __init__(self, how: str = "by its own state") -> None:
        self.how = how


@pytest.fixture
def tables() -> Iterator[None]:
    yield
    copyreg.dispatch_table.pop(Registered, None)
    vars(reduction.ForkingPickler)["_extra_reducers"].pop(Registered, None)


def how(thing: Registered) -> str:
    return thing.how


@pytest.mark.usefixtures("tables")
def test_registered_reducer_is_used_at_once() -> None:
    queue = garrison.Queue()

    def travels(pool: Pool) -> set[str]:
        queue.put(Registered())
        shared = garrison.share(Registered())
        things = pool.map(identity, [Registered()]), [queue.get(), shared.get()]
        return {each.how for several in things for each in several}

    with Pool(1) as pool:
        assert travels(pool) == {"by its own state"}
        copyreg.pickle(Registered, lambda _: (Registered, ("copyreg",)))
        assert travels(pool) == {"copyreg"}
        reduction.ForkingPickler.register(Registered, lambda _: (Registered, ("forking",)))
        assert travels(pool) == {"forking"}


# --- Code of the user that pickles ------------------------------------------------------------


class Job:
    """Its state can be had once."""

    def __init__(self, large: bool = False) -> None:
        self.lock = threading.Lock()
        self.data = bytearray(100_000 if large else 10)
        self.size: Callable[[], int] = lambda: len(self.data)

    def __getstate__(self) -> dict[str, Any]:
        del self.__dict__["lock"]
        return self.__dict__


class Counted:
    times = 0

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        Counted.times += 1
        return Counted, self.parts


def size(job: Job) -> int:
    return job.size()


@pytest.mark.parametrize("large", [False, True])
def test_code_of_the_user_runs_once_for_each_object(large: bool) -> None:
    size_there = 100_000 if large else 10
    with Pool(1) as pool:
        assert pool.apply(size, (Job(large),)) == size_there
        assert pool.map(size, [Job(large), Job(large)]) == [size_there] * 2
        assert list(pool.imap(size, [Job(large)])) == [size_there]


def count(make: Callable[[], object]) -> int:
    before = Counted.times
    make()
    return Counted.times - before


def frozen() -> Any:
    np = pytest.importorskip("numpy")
    array = np.arange(100_000)
    array.flags.writeable = False
    return array


PARTS: dict[str, Callable[[], Any]] = {
    "nothing else": lambda: 1,
    "a lambda": lambda: lambda: 1,
    "a large buffer": lambda: bytearray(1 << 20),
    "a read-only array": frozen,
    "what cannot be pickled": threading.Lock,
}


def with_part(part: str, use: Callable[[Any], object]) -> Callable[[], object]:
    def attempt() -> None:
        try:
            use([Counted(), PARTS[part]()])
        except (TypeError, AttributeError, pickle.PicklingError):
            assert part in {"a lambda", "what cannot be pickled"}

    return attempt


@pytest.mark.parametrize("part", PARTS)
def test_reduce_is_called_once_whatever_is_beside_it(part: str) -> None:
    with Pool(1) as pool:
        assert count(with_part(part, lambda value: pool.apply(len, (value,)))) == 1
        assert count(with_part(part, lambda value: pool.map(len, [value]))) == 1
    assert count(with_part(part, garrison.Queue().put)) == 1
    assert count(with_part(part, garrison.share)) == 1


@pytest.mark.parametrize("part", PARTS)
def test_reduce_is_called_once_for_a_stored_value(part: str) -> None:
    with garrison.Manager() as manager:
        shared = manager.list()
        assert count(with_part(part, lambda value: shared.append((value,)))) == 1


def refuse(counter: list[int]) -> Any:
    class Result:
        def __reduce__(self) -> Any:
            counter.append(1)
            raise TypeError(f"pickled {len(counter)} times")

    return Result()


def test_results_are_pickled_once() -> None:
    with Pool(1) as pool:
        for call in (pool.apply, lambda f, a: pool.map(f, [a[0], a[0]])):
            with pytest.raises(garrison.pool.MaybeEncodingError, match="pickled 1 times"):
                call(refuse, ([],))


# --- What is refused --------------------------------------------------------------------------


def a_generator() -> Iterator[int]:
    yield 1


REFUSED: dict[str, Callable[[], Any]] = {
    "an open file": Path(__file__).open,
    "an open binary file": functools.partial(Path(__file__).open, "rb"),
    "a generator": a_generator,
    "a module": lambda: types,
    "code": lambda: a_generator.__code__,
    "a read-only dict": lambda: vars(Path),
    "a lock": threading.Lock,
    "a condition": threading.Condition,
    "a view of memory": lambda: memoryview(b"x"),
    "a frame": sys._getframe,
    "a weak reference": lambda: weakref.ref(threading.current_thread()),
    "the authentication key": lambda: garrison.current_process().authkey,
    "an iterator of files": lambda: os.scandir("."),
}


PARTS_OF_FUNCTIONS = (types.ModuleType, types.CodeType, types.MappingProxyType)


@pytest.mark.parametrize("kind", REFUSED)
def test_objects_refused_by_multiprocessing_are_refused(kind: str) -> None:
    value = REFUSED[kind]()
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        reduction.ForkingPickler.dumps(value)
    with Pool(1) as pool:
        with pytest.raises(ArgumentUnpicklable, match=r"cannot send the arguments\[0\]"):
            pool.apply(identity, (value,))
        with pytest.raises(ArgumentUnpicklable, match=r"\['it'\]"):
            pool.apply(identity, ({"it": value},))
        if not isinstance(value, PARTS_OF_FUNCTIONS):
            with pytest.raises(ArgumentUnpicklable):
                pool.apply(lambda: value)
        with pytest.raises(TypeError):
            garrison.Queue().put([value])
        with pytest.raises(garrison.pool.MaybeEncodingError):
            pool.apply(make_refused, (kind,))
    if hasattr(value, "close"):
        value.close()


def make_refused(kind: str) -> Any:
    return REFUSED[kind]()


def a_lambda() -> Any:
    return lambda: 1


def test_a_lambda_is_no_result() -> None:
    with Pool(1) as pool, pytest.raises(garrison.pool.MaybeEncodingError, match="lambda"):
        pool.apply(a_lambda)


def test_modules_are_sent_with_functions() -> None:
    with Pool(1) as pool:
        assert pool.apply(lambda: pickle.loads(pickle.dumps(os.name))) == os.name
