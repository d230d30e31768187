"""A lane: the one long task that each process of the pool has.

A task for each site would let a process have one transfer at a time, and a task for
each short list would make all of it wait for its slowest site. So a lane gets a
site whenever it has room for one, and its transfers never wait for each other.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager

from garrison.fetch._channel import LaneClient
from garrison.fetch._curl_client import CurlClient
from garrison.fetch._messages import Outcome, Settings

# A connection, its successor after a redirect, a look-up, a part on disk.
_DESCRIPTORS_FOR_ONE = 6
_OTHER_DESCRIPTORS = 256


def run_lane(address: str, lane: int, settings: Settings) -> int:
    """Run the jobs that the parent sends, until it stops the lane.

    Parameters
    ----------
    address
        The address of the `LaneServer`.
    lane
        The lane's number.
    settings
        What the transfers have in common.

    Returns
    -------
    int
        How many transfers have ended.
    """
    _allow_descriptors(_DESCRIPTORS_FOR_ONE * settings.per_worker + _OTHER_DESCRIPTORS)
    ended = 0
    with (
        _ignore_interrupts(),
        closing(LaneClient(address, lane)) as client,
        closing(CurlClient(settings, lane, client.fileno())) as curl,
    ):
        staying = True
        while staying:
            readable = curl.wait()
            outcomes = curl.collect()
            ended += len(outcomes)
            staying = _send_outcomes(client, outcomes)
            if readable and staying:
                staying = _start_jobs(client, curl)
    return ended


def _allow_descriptors(wanted: int) -> None:
    """Raise this process's limit of open files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _send_outcomes(client: LaneClient, outcomes: list[Outcome]) -> bool:
    """Send outcomes; False when the parent is gone."""
    try:
        if outcomes:
            client.send(outcomes)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _start_jobs(client: LaneClient, curl: CurlClient) -> bool:
    """Start the jobs that have arrived; False when the lane has to end."""
    jobs = client.receive()
    for job in jobs or ():
        curl.start(job)
    return jobs is not None


@contextmanager
def _ignore_interrupts() -> Iterator[None]:
    """Leave Ctrl-C to the parent, which still collects the finished transfers."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
