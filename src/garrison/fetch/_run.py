"""One run: a pool with a lane in each process, fed from here until every site is done.

::

    hire lanes ─▶ wait: a lane joined, said something, left; a site is due; a signal
                   │
                   ├─ joined, said: settle its outcomes, commit pages, report, feed it
                   ├─ left: its sites wait again, another lane is hired in its place
                   └─ all done, or a signal: send the lanes away, hear them out
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from garrison.fetch._channel import Event, Hub, Left, Said
from garrison.fetch._crew import Crew, fate
from garrison.fetch._ledger import Ledger, Page
from garrison.fetch._messages import Outcome
from garrison.fetch._pages import Folder
from garrison.fetch._report import Record, Report, record_of
from garrison.fetch._view import View

_SECONDS_TO_LEAVE = 3.0
_CHECK_SECONDS = 0.5
_MOST_SILENT_DEATHS = 10


@dataclass(frozen=True, slots=True)
class Output:
    """Where the results of a run go.

    Attributes
    ----------
    folder
        The folder of pages.
    names
        The name of each site's page.
    report
        Who is told of each site.
    """

    folder: Folder
    names: list[str]
    report: Report


class Run:
    """A run, from the first lane hired to the last one gone.

    Parameters
    ----------
    crew
        Who hires lanes.
    hub
        Where they join.
    ledger
        The sites.
    output
        Where results go.
    view
        What a person sees of it.
    """

    def __init__(self, crew: Crew, hub: Hub, ledger: Ledger, output: Output, view: View) -> None:
        self._crew = crew
        self._hub = hub
        self._ledger = ledger
        self._output = output
        self._view = view
        self._records: list[Record] = []
        self._silent_deaths = 0
        self.pages: list[Page] = []
        self._signals: list[int] = []
        self._leaving = False

    @property
    def stopped_by(self) -> int | None:
        """The signal that stopped the run, if one did."""
        return self._signals[0] if self._signals else None

    def stop(self, signum: int) -> None:
        """Stop before the end, because of a signal; signal handlers may call it."""
        self._signals.append(signum)
        self._hub.ring()

    def go(self) -> None:
        """Fetch everything, or as much as a signal allows."""
        self._crew.hire(self._ledger.left)
        while self._ledger.left and not self._signals:
            self._step()
            self._feed()
        self._send_away()

    def _step(self) -> None:
        for event in self._hub.wait(self._patience()):
            self._handle(event)
        for lane in self._crew.vanished(self._hub.lanes):
            self._bury(lane)
        self._flush()

    def _patience(self) -> float | None:
        waits = [self._ledger.pause(time.monotonic()), self._view.tick]
        if self._crew.awaited(self._hub.lanes):
            waits.append(_CHECK_SECONDS)
        return min((seconds for seconds in waits if seconds is not None), default=None)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Said):
            self._silent_deaths = 0
            for outcome in event.outcomes:
                self._settle(event.lane, outcome)
        elif isinstance(event, Left):
            self._bury(event.lane)
        elif self._leaving:
            self._hub.dismiss(event.lane)

    def _settle(self, lane: int, outcome: Outcome) -> None:
        if outcome.part:
            try:
                self._output.folder.commit(outcome.part, self._output.names[outcome.site])
            except OSError as error:
                outcome = outcome._replace(
                    part="", size=0, reason=f"cannot be saved: {error.strerror}"
                )
        page = self._ledger.settle(lane, outcome, time.monotonic())
        if page is not None:
            self._done(page)

    def _done(self, page: Page) -> None:
        name = self._output.names[page.outcome.site]
        file = self._output.folder.file(name)
        self.pages.append(page)
        self._records.append(record_of(page, name, file))
        self._view.page(page, file)

    def _flush(self) -> None:
        self._output.report.add(self._records)
        self._records.clear()
        self._view.refresh()

    def _bury(self, lane: int) -> None:
        """Take back what a lane held, and hire another, unless it was sent away."""
        if not self._crew.has(lane):
            return
        task = self._crew.forget(lane)
        if self._leaving:
            return
        held = self._ledger.held(lane)
        why = fate(task)
        self._silent_deaths += 1
        self._view.note(_obituary(why, held))
        given_up = self._ledger.lose(lane, why)
        if self._silent_deaths > _MOST_SILENT_DEATHS:
            given_up += self._ledger.abandon(f"no process stays alive; of the last, {why}")
        for page in given_up:
            self._done(page)
        self._crew.hire(self._ledger.left)

    def _feed(self) -> None:
        self._ledger.wake(time.monotonic())
        for lane in filter(self._crew.has, self._hub.lanes):
            if not self._ledger.ready:
                return
            jobs = self._ledger.take(lane)
            if jobs:
                self._hub.send(lane, jobs)

    def _send_away(self) -> None:
        """Send the lanes away, and hear what they still say; a second signal cuts it short."""
        self._leaving = True
        signals = len(self._signals)
        for lane in self._hub.lanes:
            self._hub.dismiss(lane)
        until = time.monotonic() + _SECONDS_TO_LEAVE
        while self._crew.lanes and time.monotonic() < until:
            for event in self._hub.wait(max(0.0, until - time.monotonic())):
                self._handle(event)
            if len(self._signals) > signals:
                break
        self._flush()


def _obituary(why: str, held: int) -> str:
    tried_again = f"{held} site{'s' * (held != 1)} that it was fetching will be tried again"
    return f"one lane is lost, for {why}; {tried_again if held else 'it had no site'}"
