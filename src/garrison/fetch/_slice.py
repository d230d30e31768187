"""A slice of the list: what a task of another engine's pool fetches.

A lane needs a socket to the parent, which may be on another machine. A slice needs nothing: its
pages come back as the task's result, and the parent saves them. It begins no further site after a
while, so that results come in time and fit into memory, and brings back the sites that it has not
begun.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from garrison.fetch._curl_client import CurlClient
from garrison.fetch._messages import Job, Outcome, Settings

SLICE_S = 2.0
"""Seconds after which a slice begins no further site."""
SLICE_BYTES = 16 << 20
"""Bytes of pages after which it does not either."""


class Slice(NamedTuple):
    """What a task has fetched.

    Attributes
    ----------
    outcomes
        How each transfer ended.
    pages
        The page of each outcome that has a part, in their order.
    left
        The sites that were not begun.
    """

    outcomes: list[Outcome]
    pages: list[bytes]
    left: list[int]


def fetch_slice(settings: Settings, jobs: list[Job]) -> Slice:
    """Fetch sites, as many at once as a lane does."""
    found = Slice([], [], [])
    waiting = deque(jobs)
    until = time.monotonic() + SLICE_S
    size = running = 0
    line = os.eventfd(0, os.EFD_CLOEXEC)  # a lane's connection to its parent; here nothing comes
    with (
        os.fdopen(line),
        tempfile.TemporaryDirectory(prefix="garrison-fetch-") as folder,
        closing(CurlClient(replace(settings, folder=folder), 0, line)) as curl,
    ):
        while True:
            goes_on = size < SLICE_BYTES and (time.monotonic() < until or not found.outcomes)
            while waiting and running < settings.per_worker and (goes_on or not found.outcomes):
                curl.start(waiting.popleft())
                running += 1
            if not running:
                break
            curl.wait()
            for outcome in curl.collect():
                running -= 1
                size += outcome.size
                _add(found, outcome, Path(folder))
    found.left.extend(job.site for job in waiting)
    return found


def _add(found: Slice, outcome: Outcome, folder: Path) -> None:
    found.outcomes.append(outcome)
    if outcome.part:
        part = folder / outcome.part
        found.pages.append(part.read_bytes())
        part.unlink()
