"""A run over another engine: slices of the list as tasks, whose pages the parent saves.

::

    take_jobs ─▶ a task for each idle worker of the engine ─▶ outcomes and pages, as they come
                   │
                   ├─ its results: save and rename pages, report, let sites wait that are left
                   ├─ it died: its sites wait again
                   └─ all done, or a signal: what runs then is dropped, and fetched by --resume
"""

from __future__ import annotations

import itertools
import queue
import time
from contextlib import suppress

from garrison._typing import Any
from garrison.errors import GarrisonError, PoolBroken, WorkerDied
from garrison.fetch._lane_tasks import why_lane_ended
from garrison.fetch._messages import Settings
from garrison.fetch._progress import ProgressView
from garrison.fetch._results import Output, Results
from garrison.fetch._site_queue import Page, SiteQueue
from garrison.fetch._slice import Slice, fetch_slice

SLICE_SITES = 8
"""Sites of a slice for each transfer at once: so most of the time all of them are under way."""
_MOST_SILENT_DEATHS = 10


class NodeUnusableError(GarrisonError):
    """A node of the engine cannot fetch anything. The text says what to do."""


class EngineRun:
    """A run of slices.

    Parameters
    ----------
    pool
        The engine's pool.
    settings
        What all transfers have in common.
    sites
        The queue; its settings have a slice's size for `per_worker`.
    output
        Where results go.
    view
        The progress display.
    """

    def __init__(
        self, pool: Any, settings: Settings, sites: SiteQueue, output: Output, view: ProgressView
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._queue = sites
        self._output = output
        self._view = view
        self._results = Results(sites, output, view)
        self._running: dict[int, Any] = {}
        self._ended: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._parts = itertools.count()
        self._silent_deaths = 0
        self.stopped_by: int | None = None
        """The signal that stopped the run, if one did."""

    @property
    def pages(self) -> list[Page]:
        """What became of the sites that are done."""
        return self._results.pages

    def stop(self, signum: int) -> None:
        """Stop before the end, because of a signal; signal handlers may call it."""
        self.stopped_by = self.stopped_by or signum
        self._ended.put(None)

    def run(self) -> None:
        """Fetch everything, or as much as a signal allows."""
        while self._queue.remaining and self.stopped_by is None:
            self._queue.release_due(time.monotonic())
            self._start_slices()
            self._take_next()
            self._results.flush()

    def _start_slices(self) -> None:
        workers = max(1, self._pool.statistics().workers)
        for lane in range(workers):
            if lane in self._running:
                continue
            if not self._queue.ready:
                return
            jobs = self._queue.take_jobs(lane)
            if jobs:
                self._start(lane, jobs)

    def _start(self, lane: int, jobs: list[Any]) -> None:
        def ended(_: object, lane: int = lane) -> None:
            self._ended.put(lane)

        arguments = (self._settings, jobs)
        # First, for an engine that runs a task at once.
        self._running[lane] = None
        self._running[lane] = self._pool.apply_async(
            fetch_slice, arguments, callback=ended, error_callback=ended
        )

    def _take_next(self) -> None:
        waits = [self._queue.seconds_until_retry(time.monotonic()), self._view.tick]
        timeout = min((seconds for seconds in waits if seconds is not None), default=None)
        with suppress(queue.Empty):
            lane = self._ended.get(timeout=timeout)
            if lane is not None:
                self._take(lane, self._running.pop(lane))

    def _take(self, lane: int, task: Any) -> None:
        try:
            found: Slice = task.get()
        except PoolBroken:
            raise
        except ImportError as error:
            raise NodeUnusableError(
                f"a node of the engine cannot fetch: {error}; it needs there: "
                'pip install "garrison[fetch]"'
            ) from error
        except Exception:
            self._record_death(lane, task)
            return
        self._silent_deaths = 0
        pages = iter(found.pages)
        for outcome in found.outcomes:
            self._results.record(lane, self._saved(outcome, pages) if outcome.part else outcome)
        self._queue.take_back(lane, found.left)

    def _saved(self, outcome: Any, pages: Any) -> Any:
        """Save a page as a part of this run."""
        part = f".garrison-{self._settings.run}-0-{next(self._parts)}.part"
        try:
            self._output.folder.save_part(part, next(pages))
        except OSError as error:
            return outcome._replace(part="", size=0, reason=f"cannot be saved: {error.strerror}")
        return outcome._replace(part=part)

    def _record_death(self, lane: int, task: Any) -> None:
        held = self._queue.count_held(lane)
        why = _why_ended(task)
        self._silent_deaths += 1
        self._view.note(f"a worker is lost, for {why}; its {held} sites will be tried again")
        given_up = self._queue.record_lane_death(lane, why)
        if self._silent_deaths > _MOST_SILENT_DEATHS:
            given_up += self._queue.give_up_waiting(f"no worker stays alive; of the last, {why}")
        for page in given_up:
            self._results.finish(page)


def _why_ended(task: Any) -> str:
    try:
        task.get()
    except WorkerDied as death:
        if death.signal is None and death.exitcode is None:
            return str(death).partition("\n")[0]
    except Exception:
        return why_lane_ended(task)
    return why_lane_ended(task)
