"""One run: a pool with a lane in each process, which gets sites until every site is done.

::

    start lanes ─▶ wait: a lane connects, sends results, ends; a site is due; a signal
                   │
                   ├─ results: record the outcomes, rename pages, report, assign sites
                   ├─ end of a lane: its sites wait again, another lane is started
                   └─ all done, or a signal: stop the lanes, collect their last results
"""

from __future__ import annotations

import time

from garrison.fetch._channel import Event, LaneGone, LaneResults, LaneServer
from garrison.fetch._lane_tasks import LaneTasks, why_lane_ended
from garrison.fetch._progress import ProgressView
from garrison.fetch._results import Output, Results
from garrison.fetch._site_queue import Page, SiteQueue

_LANE_STOP_TIMEOUT_S = 3.0
_LIVENESS_CHECK_INTERVAL_S = 0.5
_MAX_SILENT_DEATHS = 10


class Run:
    """A run, from the start of the first lane to the end of the last.

    Parameters
    ----------
    lanes
        The lanes.
    server
        The server to which they connect.
    queue
        The sites.
    output
        Where results go.
    view
        The progress display.
    """

    def __init__(
        self,
        lanes: LaneTasks,
        server: LaneServer,
        queue: SiteQueue,
        output: Output,
        view: ProgressView,
    ) -> None:
        self._lanes = lanes
        self._server = server
        self._queue = queue
        self._results = Results(queue, output, view)
        self._view = view
        self._silent_deaths = 0
        self._signals: list[int] = []
        self._stopping = False

    @property
    def pages(self) -> list[Page]:
        """What became of the sites that are done."""
        return self._results.pages

    @property
    def stopped_by(self) -> int | None:
        """The signal that stopped the run, if one did."""
        return self._signals[0] if self._signals else None

    def stop(self, signum: int) -> None:
        """Stop before the end, because of a signal; signal handlers may call it."""
        self._signals.append(signum)
        self._server.wake()

    def run(self) -> None:
        """Fetch everything, or as much as a signal allows."""
        self._lanes.start(self._queue.remaining)
        while self._queue.remaining and not self._signals:
            self._run_once()
            self._assign_sites()
        self._stop_lanes()

    def _run_once(self) -> None:
        for event in self._server.wait(self._timeout()):
            self._handle(event)
        for lane in self._lanes.ended_unconnected(self._server.lanes):
            self._drop_lane(lane)
        self._results.flush()

    def _timeout(self) -> float | None:
        waits = [self._queue.seconds_until_retry(time.monotonic()), self._view.tick]
        if self._lanes.any_unconnected(self._server.lanes):
            waits.append(_LIVENESS_CHECK_INTERVAL_S)
        return min((seconds for seconds in waits if seconds is not None), default=None)

    def _handle(self, event: Event) -> None:
        if isinstance(event, LaneResults):
            self._silent_deaths = 0
            for outcome in event.outcomes:
                self._results.record(event.lane, outcome)
        elif isinstance(event, LaneGone):
            self._drop_lane(event.lane)
        elif self._stopping:
            self._server.stop_lane(event.lane)

    def _drop_lane(self, lane: int) -> None:
        """Return the sites of an ended lane, and start another, unless it was stopped."""
        if not self._lanes.has(lane):
            return
        task = self._lanes.remove(lane)
        if self._stopping:
            return
        held = self._queue.count_held(lane)
        why = why_lane_ended(task)
        self._silent_deaths += 1
        self._view.note(_lane_lost_message(why, held))
        given_up = self._queue.record_lane_death(lane, why)
        if self._silent_deaths > _MAX_SILENT_DEATHS:
            given_up += self._queue.give_up_waiting(f"no process stays alive; of the last, {why}")
        for page in given_up:
            self._results.finish(page)
        self._lanes.start(self._queue.remaining)

    def _assign_sites(self) -> None:
        self._queue.release_due(time.monotonic())
        for lane in filter(self._lanes.has, self._server.lanes):
            if not self._queue.ready:
                return
            jobs = self._queue.take_jobs(lane)
            if jobs:
                self._server.send(lane, jobs)

    def _stop_lanes(self) -> None:
        """Stop the lanes, and collect their last results; a second signal cuts it short."""
        self._stopping = True
        signals = len(self._signals)
        for lane in self._server.lanes:
            self._server.stop_lane(lane)
        until = time.monotonic() + _LANE_STOP_TIMEOUT_S
        while self._lanes.running and time.monotonic() < until:
            for event in self._server.wait(max(0.0, until - time.monotonic())):
                self._handle(event)
            if len(self._signals) > signals:
                break
        self._results.flush()


def _lane_lost_message(why: str, held: int) -> str:
    tried_again = f"{held} site{'s' * (held != 1)} that it was fetching will be tried again"
    return f"one lane is lost, for {why}; {tried_again if held else 'it had no site'}"
