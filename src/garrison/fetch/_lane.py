"""A lane: the one long task that each process of the pool has.

A task for each site would let a process have one transfer at a time, and a task for
each short list would make all of it wait for its slowest site. So a lane asks for a
site whenever it has room for one, and its transfers never wait for each other.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager

from garrison.fetch._channel import Line
from garrison.fetch._engine import Engine
from garrison.fetch._messages import Outcome, Settings

# A connection, its successor after a redirect, a look-up, a part on disk.
_DESCRIPTORS_FOR_ONE = 6
_OTHER_DESCRIPTORS = 256


def run_lane(address: str, lane: int, settings: Settings) -> int:
    """Fetch what comes along the line until sent away.

    Parameters
    ----------
    address
        The hub's address.
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
        _parent_decides_about_interrupts(),
        closing(Line(address, lane)) as line,
        closing(Engine(settings, lane, line.fileno())) as engine,
    ):
        staying = True
        while staying:
            readable = engine.wait()
            outcomes = engine.collect()
            ended += len(outcomes)
            staying = _tell(line, outcomes)
            if readable and staying:
                staying = _start(line, engine)
    return ended


def _allow_descriptors(wanted: int) -> None:
    """Raise this process's limit of open files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _tell(line: Line, outcomes: list[Outcome]) -> bool:
    """Send outcomes; False when nobody is there to hear them."""
    try:
        if outcomes:
            line.send(outcomes)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _start(line: Line, engine: Engine) -> bool:
    """Start what the line brings; False when it says to go."""
    jobs = line.receive()
    for job in jobs or ():
        engine.start(job)
    return jobs is not None


@contextmanager
def _parent_decides_about_interrupts() -> Iterator[None]:
    """Leave Ctrl-C to the parent: it wants to hear of the transfers that have ended."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
