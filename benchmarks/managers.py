"""A shared dict, list and counter of each library, in the words that its users would use.

Redis runs from Debian's packages, on a Unix socket and with nothing written to disk.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import BASELINE, SUBJECT, Unsupported, Values

REDIS = "redis"
EVERYONE = (SUBJECT, BASELINE, REDIS)


class Own:
    """garrison's."""

    def __init__(self, manager: Any) -> None:
        self.dict, self.list = manager.dict(), manager.list()

    def get(self, key: str) -> Any:
        return self.dict[key]

    def set(self, key: str, value: Any) -> None:
        self.dict[key] = value

    def append(self, value: Any) -> None:
        self.list.append(value)

    def increment(self, key: str) -> None:
        self.dict.add(key, 1)


class Standard:
    """`multiprocessing.Manager`'s; adding is made atomic by a lock of its own."""

    def __init__(self, manager: Any) -> None:
        self.dict, self.list, self.lock = manager.dict(), manager.list(), manager.Lock()

    def get(self, key: str) -> Any:
        return self.dict[key]

    def set(self, key: str, value: Any) -> None:
        self.dict[key] = value

    def append(self, value: Any) -> None:
        self.list.append(value)

    def increment(self, key: str) -> None:
        with self.lock:
            self.dict[key] += 1


class Redis:
    """redis-py's, on a Unix socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connect()

    def _connect(self) -> None:
        import redis

        self.redis = redis.Redis(unix_socket_path=self._path)

    def __getstate__(self) -> Any:
        return self._path

    def __setstate__(self, path: Any) -> None:
        self._path = path
        self._connect()

    def get(self, key: str) -> Any:
        return int(self.redis.hget("dict", key) or 0)

    def set(self, key: str, value: Any) -> None:
        self.redis.hset("dict", key, value)

    def append(self, value: Any) -> None:
        self.redis.rpush("list", value)

    def increment(self, key: str) -> None:
        self.redis.hincrby("dict", key, 1)


@contextlib.contextmanager
def opened(peer: str) -> Iterator[Any]:
    """The shared things of a library."""
    if peer == SUBJECT:
        import garrison

        with garrison.Manager() as manager:
            yield Own(manager)
    elif peer == BASELINE:
        with multiprocessing.Manager() as standard:
            yield Standard(standard)
    else:
        with redis_server() as path:
            yield Redis(path)


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """A Redis of this turn's own; its socket."""
    program = shutil.which("redis-server")
    if program is None:
        raise Unsupported("redis-server is not installed (Debian: apt-get install redis-server)")
    import redis

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        settings = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(
            [program, *settings], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            client = redis.Redis(unix_socket_path=path)
            for _ in range(200):
                with contextlib.suppress(redis.ConnectionError):
                    if client.ping():
                        break
                time.sleep(0.02)
            yield path
        finally:
            process.kill()
            process.wait()


def microseconds(work: Callable[[int], None], times: int, turns: int = 3) -> float:
    """Microseconds for one of so many, in the best turn."""
    took = []
    for _ in range(turns):
        start = time.perf_counter()
        work(times)
        took.append(time.perf_counter() - start)
    return min(took) / times * 1e6


def together(processes: int, work: Callable[[int], None], times: int) -> float:
    """Operations a second of some processes together, from the first start to the last end."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    ready, go = context.Semaphore(0), context.Event()

    def run(number: int) -> None:
        work(1)  # what a process does once is not counted
        ready.release()
        go.wait()
        start = time.perf_counter()
        work(times)
        results.put((start, time.perf_counter(), number))

    children = [context.Process(target=run, args=(number,)) for number in range(processes)]
    for child in children:
        child.start()
    for _ in children:
        ready.acquire()
    go.set()
    starts, ends, _ = zip(*(results.get() for _ in children), strict=True)
    for child in children:
        child.join()
    return float(processes * times / (max(ends) - min(starts)))


def keys(count: int) -> list[str]:
    """As many keys as are worth the name."""
    return [f"key-{number}" for number in range(count)]


NAMES = keys(1000)


def one_process(peer: str, shared: Any, quick: bool) -> Values:
    """Get, set, append and atomic add, in microseconds."""
    times = {SUBJECT: 50_000, BASELINE: 3_000}.get(peer, 5_000) // (10 if quick else 1)
    for key in NAMES:
        shared.set(key, 0)

    def get(count: int) -> None:
        for number in range(count):
            shared.get(NAMES[number % 1000])

    def put(count: int) -> None:
        for number in range(count):
            shared.set(NAMES[number % 1000], number)

    def append(count: int) -> None:
        for number in range(count):
            shared.append(number)

    def add(count: int) -> None:
        for number in range(count):
            shared.increment(NAMES[number % 1000])

    return {
        "get": microseconds(get, times),
        "set": microseconds(put, times),
        "append": microseconds(append, times),
        "atomic += 1": microseconds(add, times),
    }
