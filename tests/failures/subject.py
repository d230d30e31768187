"""The module under test, `multiprocessing` or `garrison`, and what a scenario may ask of it."""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.pool
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .system import TOKEN

PATIENCE = float(os.environ.get("FAILURES_PATIENCE", "8"))
"""Seconds after which a call that has not come back is said to hang."""


class Broken(Exception):
    """The module under test did not behave; subclasses say how."""


class Hangs(Broken):
    """Neither a result nor an error came in time."""


class Lost(Broken):
    """Work that was accepted, and not touched by the failure, is gone."""


class Wrong(Broken):
    """Something came, and it is not what should have come."""


BROKEN: dict[str, type[Broken]] = {"hangs": Hangs, "lost": Lost, "wrong": Wrong}


class Missing(Exception):
    """The system lacks what the scenario needs; the message names it."""


@dataclass(frozen=True)
class Subject:
    """A module under test with a start method."""

    name: str
    method: str

    @classmethod
    def prepare(cls, name: str, method: str) -> Subject:
        """Select the start method for this process, import the module, and wrap it."""
        multiprocessing.set_start_method(method, force=True)
        # Else nobody could tell whose the semaphores are that a killed process leaves.
        process: Any = multiprocessing.current_process()
        process._config["semprefix"] = f"/mp-{os.environ.get(TOKEN, '')}"
        importlib.import_module(f"{name}.pool")
        return cls(name, method)

    @property
    def module(self) -> Any:
        """The module itself."""
        return importlib.import_module(self.name)

    @property
    def is_garrison(self) -> bool:
        """Whether the promises that only garrison makes are to be checked, too."""
        return self.name == "garrison"

    def pool(self, processes: int = 2, *args: Any, **options: Any) -> multiprocessing.pool.Pool:
        """A new pool under this start method."""
        pool: multiprocessing.pool.Pool = self.module.Pool(processes, *args, **options)
        return pool

    def workers(self, pool: multiprocessing.pool.Pool) -> list[int]:
        """The pids of the workers of `pool` at this moment."""
        known = pool._pool  # type: ignore[attr-defined]
        # Asked once: a worker may end between two looks.
        return [pid for worker in known if (pid := worker.pid) is not None]

    def value(self, result: Any) -> Any:
        """The value of an `AsyncResult`."""
        try:
            return result.get(PATIENCE)
        except multiprocessing.TimeoutError:
            message = "get() has not come back"
            raise Hangs(message) from None

    def error(self, result: Any, *kinds: type[BaseException]) -> BaseException:
        """The exception of an `AsyncResult`, which must be one of `kinds`, if any are given."""
        try:
            value = self.value(result)
        except Broken:
            raise
        except BaseException as error:
            if kinds and not isinstance(error, kinds):
                message = f"{type(error).__name__}: {error}"
                raise Wrong(message) from error
            return error
        message = f"no error, but {value!r:.60}"
        raise Wrong(message)

    def death(
        self, result: Any, *, signal: int | None = None, exitcode: int | None = None
    ) -> BaseException:
        """The error of a task whose worker died, which must say how it died."""
        error = self.error(result)
        if self.is_garrison:
            self.check_death(error, signal=signal, exitcode=exitcode)
        return error

    def check_death(
        self, error: Any, *, signal: int | None = None, exitcode: int | None = None
    ) -> None:
        """Check the type and the attributes of garrison's report of a worker's death."""
        check(type(error) is self.module.WorkerDied, f"{type(error).__name__}: {error}")
        found = (error.signal, error.exitcode)
        check(signal is None or error.signal == signal, f"(signal, exitcode) = {found}")
        check(exitcode is None or error.exitcode == exitcode, f"(signal, exitcode) = {found}")
        check(error.pid > 0, f"pid = {error.pid}")
        check(bool(error.task), "the task is not named")

    def still_works(self, pool: multiprocessing.pool.Pool, tasks: int = 4) -> None:
        """Check that the pool takes new tasks and gives their results."""
        results = [pool.apply_async(abs, (-n,)) for n in range(tasks)]
        same([self.value(result) for result in results], list(range(tasks)))

    def finish(self, pool: multiprocessing.pool.Pool) -> None:
        """Close and join; the watchdog looks after a join that hangs."""
        pool.close()
        pool.join()


def check(condition: object, otherwise: str) -> None:
    """Raise `Wrong` with the text `otherwise` unless `condition` holds."""
    if not condition:
        raise Wrong(otherwise)


def same(found: Any, expected: Any) -> None:
    """Raise `Wrong` unless both are equal."""
    if found != expected:
        message = f"{found!r:.80} instead of {expected!r:.80}"
        raise Wrong(message)


def none_lost(found: Iterable[Any], expected: Iterable[Any]) -> None:
    """Raise `Lost` unless all expected values arrived, each in its place."""
    pairs = list(zip(found, expected, strict=True))
    lost = [wanted for got, wanted in pairs if got != wanted]
    if lost:
        message = f"{len(lost)} of {len(pairs)} results"
        raise Lost(message)
