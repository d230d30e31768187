"""What becomes of results: a page is renamed, then reported, then shown."""

from __future__ import annotations

import time
from dataclasses import dataclass

from garrison.fetch._messages import Outcome
from garrison.fetch._pages import PageDirectory
from garrison.fetch._progress import ProgressView
from garrison.fetch._report import Record, Report, record_of
from garrison.fetch._site_queue import Page, SiteQueue


@dataclass(frozen=True, slots=True)
class Output:
    """Where the results of a run go.

    Attributes
    ----------
    folder
        The directory of pages.
    names
        The name of each site's page.
    report
        The report of finished sites.
    """

    folder: PageDirectory
    names: list[str]
    report: Report


class Results:
    """The results of a run.

    Parameters
    ----------
    queue
        The sites.
    output
        Where results go.
    view
        The progress display.
    """

    def __init__(self, queue: SiteQueue, output: Output, view: ProgressView) -> None:
        self._queue = queue
        self._output = output
        self._view = view
        self._records: list[Record] = []
        self.pages: list[Page] = []

    def record(self, lane: int, outcome: Outcome) -> None:
        """Enter how a transfer ended; a complete part becomes a page."""
        if outcome.part:
            try:
                self._output.folder.commit(outcome.part, self._output.names[outcome.site])
            except OSError as error:
                outcome = outcome._replace(
                    part="", size=0, reason=f"cannot be saved: {error.strerror}"
                )
        page = self._queue.record(lane, outcome, time.monotonic())
        if page is not None:
            self.finish(page)

    def finish(self, page: Page) -> None:
        """Note what has become of a site."""
        name = self._output.names[page.outcome.site]
        file = self._output.folder.file(name)
        self.pages.append(page)
        self._records.append(record_of(page, name, file))
        self._view.page(page, file)

    def flush(self) -> None:
        """Write and show what was noted."""
        self._output.report.add(self._records)
        self._records.clear()
        self._view.refresh()
