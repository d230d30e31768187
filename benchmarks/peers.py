"""One face for all the pools that are compared: each adapter says how its library does a thing.

Every library runs with its own defaults, two workers unless a benchmark says otherwise.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import multiprocessing.pool
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tasks
from harness import WORKERS, Unsupported

Task = Callable[[Any], Any]
Map = Callable[[Task, Sequence[Any]], list[Any]]
Imap = Callable[[Task, Iterable[Any]], Iterator[Any]]


class Adapter:
    """A pool of one library. What is not overridden the library cannot do."""

    def apply(self, task: Task, argument: Any) -> Any:
        """One task, and its result."""
        return self.result(self.submit(task, argument))

    def submit(self, task: Task, argument: Any) -> Any:
        """One task, and a handle for its result."""
        raise Unsupported("it has no call for a single task")

    def result(self, handle: Any) -> Any:
        """The result of a handle."""
        return handle.result()

    def map(self, task: Task, arguments: Sequence[Any]) -> list[Any]:
        """All results in order, chunks as the library chooses."""
        raise NotImplementedError

    def imap(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        """Results in order as they come, one element a chunk."""
        raise NotImplementedError

    def imap_unordered(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        """Results as they come, one element a chunk."""
        raise NotImplementedError

    def close(self) -> None:
        """Let the workers finish, and wait until they are gone."""
        raise NotImplementedError


class PoolAdapter(Adapter):
    """multiprocessing.Pool, and garrison's, by the same calls."""

    def __init__(self, workers: int, method: str | None) -> None:
        context = multiprocessing.get_context(method)
        self.pool = self.make()(workers, context=context)

    def make(self) -> Any:
        """The library's class."""
        return multiprocessing.pool.Pool

    def apply(self, task: Task, argument: Any) -> Any:
        return self.pool.apply(task, (argument,))

    def submit(self, task: Task, argument: Any) -> Any:
        return self.pool.apply_async(task, (argument,))

    def result(self, handle: Any) -> Any:
        return handle.get()

    def map(self, task: Task, arguments: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(task, arguments))

    def imap(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        return iter(self.pool.imap(task, arguments))

    def imap_unordered(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        return iter(self.pool.imap_unordered(task, arguments))

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


class GarrisonAdapter(PoolAdapter):
    """The subject."""

    def make(self) -> Any:
        from garrison import Pool

        return Pool


class ExecutorAdapter(Adapter):
    """concurrent.futures, which has no automatic chunks: those of multiprocessing are used."""

    def __init__(self, workers: int, method: str | None) -> None:
        context = multiprocessing.get_context(method)
        self.pool: Any = concurrent.futures.ProcessPoolExecutor(workers, mp_context=context)
        self.workers = workers

    def submit(self, task: Task, argument: Any) -> Any:
        return self.pool.submit(task, argument)

    def map(self, task: Task, arguments: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(task, arguments, chunksize=self.chunk(arguments)))

    def imap(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        return iter(self.pool.map(task, arguments, chunksize=1))

    def imap_unordered(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        handles = [self.submit(task, argument) for argument in arguments]
        return (handle.result() for handle in concurrent.futures.as_completed(handles))

    def close(self) -> None:
        self.pool.shutdown()

    def chunk(self, arguments: Sequence[Any]) -> int:
        """What multiprocessing's map would choose."""
        return -(-len(arguments) // (self.workers * 4))


class LokyAdapter(ExecutorAdapter):
    """loky, an executor whose workers are always started afresh, without fork."""

    def __init__(self, workers: int, method: str | None) -> None:
        if method not in {None, "loky"}:
            raise Unsupported(f"it does not start workers by {method}")
        loky = importlib.import_module("loky")
        self.pool = loky.ProcessPoolExecutor(workers)
        self.workers = workers


class JoblibAdapter(Adapter):
    """joblib, on its default backend, which is loky's."""

    def __init__(self, workers: int, method: str | None) -> None:
        if method not in {None, "loky"}:
            raise Unsupported(f"it does not start workers by {method}")
        self.joblib = importlib.import_module("joblib")
        self.workers = workers

    def map(self, task: Task, arguments: Sequence[Any]) -> list[Any]:
        return list(self._calls(task, arguments))

    def imap(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        return iter(self._calls(task, arguments, batch_size=1, return_as="generator"))

    def imap_unordered(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        return iter(self._calls(task, arguments, batch_size=1, return_as="generator_unordered"))

    def close(self) -> None:
        executor = importlib.import_module("joblib.externals.loky")
        executor.get_reusable_executor(self.workers).shutdown()

    def _calls(self, task: Task, arguments: Iterable[Any], **options: Any) -> Any:
        call = self.joblib.delayed(task)
        parallel = self.joblib.Parallel(n_jobs=self.workers, **options)
        return parallel(call(argument) for argument in arguments)


class MpireAdapter(Adapter):
    """mpire, with workers that stay between calls, as in the others."""

    def __init__(self, workers: int, method: str | None) -> None:
        mpire = importlib.import_module("mpire")
        self.pool = mpire.WorkerPool(workers, start_method=method or "fork", keep_alive=True)
        self.ordered: bool | None = None

    def submit(self, task: Task, argument: Any) -> Any:
        return self.pool.apply_async(task, (argument,))

    def result(self, handle: Any) -> Any:
        return handle.get()

    def map(self, task: Task, arguments: Sequence[Any]) -> list[Any]:
        self._keep_to(ordered=True)
        return list(self.pool.map(task, arguments))

    def imap(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        self._keep_to(ordered=True)
        return iter(self.pool.imap(task, arguments, chunk_size=1))

    def imap_unordered(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        self._keep_to(ordered=False)
        return iter(self.pool.imap_unordered(task, arguments, chunk_size=1))

    def _keep_to(self, *, ordered: bool) -> None:
        # A worker that is kept alive (2.10) takes ordered calls or the others, not both.
        if self.ordered is not ordered:
            self.pool.stop_and_join()
            self.ordered = ordered

    def close(self) -> None:
        self.pool.stop_and_join()


class PebbleAdapter(Adapter):
    """pebble, which has no automatic chunks: those of multiprocessing are used."""

    def __init__(self, workers: int, method: str | None) -> None:
        pebble = importlib.import_module("pebble")
        context = multiprocessing.get_context(method)
        self.pool = pebble.ProcessPool(max_workers=workers, context=context)
        self.workers = workers

    def submit(self, task: Task, argument: Any) -> Any:
        return self.pool.schedule(task, args=(argument,))

    def map(self, task: Task, arguments: Sequence[Any]) -> list[Any]:
        chunk = -(-len(arguments) // (self.workers * 4))
        return list(self.pool.map(task, arguments, chunksize=chunk).result())

    def imap(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        return iter(self.pool.map(task, arguments, chunksize=1).result())

    def imap_unordered(self, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
        handles = [self.submit(task, argument) for argument in arguments]
        return (handle.result() for handle in concurrent.futures.as_completed(handles))

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


ADAPTERS: dict[str, type[Any]] = {
    "garrison": GarrisonAdapter,
    "multiprocessing": PoolAdapter,
    "concurrent.futures": ExecutorAdapter,
    "loky": LokyAdapter,
    "joblib": JoblibAdapter,
    "mpire": MpireAdapter,
    "pebble": PebbleAdapter,
}


def create(peer: str, workers: int = WORKERS, method: str | None = None) -> Adapter:
    """A new pool of that library."""
    adapter: Adapter = ADAPTERS[peer](workers, method)
    return adapter


@contextlib.contextmanager
def opened(peer: str, workers: int = WORKERS) -> Iterator[Adapter]:
    """A pool whose workers are all up and know the way: what is timed begins after that."""
    pool = create(peer, workers)
    list(pool.imap_unordered(tasks.pause, [0.02] * workers * 2))
    yield pool
    pool.close()
