"""Waiting for the end of a process: by a pidfd, or by polling where the system has none.

Before Linux 5.3, and in some sandboxes, there is no ``pidfd_open``. Then the descriptor of a watch
is -1, which ``poll`` ignores, and a wait checks the process every `CHECK_INTERVAL_S` seconds.
"""

from __future__ import annotations

import errno
import os
import time

from garrison import _core, _os

__all__ = ["CHECK_INTERVAL_S", "NO_DESCRIPTOR", "ProcessWatch", "has_ended", "wait_for_exit"]

NO_DESCRIPTOR = -1
"""The descriptor of a process without a pidfd."""
CHECK_INTERVAL_S = 0.05
"""Seconds between two checks of a process without a pidfd."""
_MISSING = frozenset({errno.ENOSYS, errno.EPERM})


class ProcessWatch:
    """A process whose end is awaited; it need not be a child of this process.

    With a `descriptor`, its pidfd or `NO_DESCRIPTOR`, it may have ended already.

    Raises
    ------
    ProcessLookupError
        If there is no such process.
    """

    def __init__(self, pid: int, descriptor: int | None = None) -> None:
        self.pid = pid
        self._descriptor: _core.Descriptor | None = None
        if descriptor is None:
            self._descriptor = _open(pid)
        elif descriptor != NO_DESCRIPTOR:
            self._descriptor = _core.Descriptor(descriptor)

    def fileno(self) -> int:
        """Return a descriptor that is readable at the end; `NO_DESCRIPTOR` if there is none."""
        own = self._descriptor
        return own.number if own is not None and own.is_ours else NO_DESCRIPTOR

    def has_ended(self) -> bool:
        """Whether the process has ended; a zombie has."""
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False at the deadline."""
        fd = self.fileno()
        if fd != NO_DESCRIPTOR:
            return _os.is_readable(fd, seconds)
        deadline = time.monotonic() + seconds
        while not has_ended(self.pid):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            _core.poll([], min(left, CHECK_INTERVAL_S) * 1000)
        return True

    def close(self) -> None:
        """Close the descriptor."""
        own, self._descriptor = self._descriptor, None
        if own is not None:
            own.close()


def _open(pid: int) -> _core.Descriptor | None:
    try:
        return _core.Descriptor(os.pidfd_open(pid))
    except AttributeError:  # Python was built for an older system
        pass
    except OSError as error:
        if error.errno not in _MISSING:
            raise
    os.kill(pid, 0)
    return None


def has_ended(pid: int) -> bool:
    """Whether a process has ended (a zombie has), without a descriptor of it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        pass  # no child of this process, or reaped already
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    seen = _os.process_status(pid)
    return seen is not None and not seen.alive


def wait_for_exit(pid: int, seconds: float) -> bool:
    """Wait for the end of any process (a zombie has ended)."""
    try:
        watch = ProcessWatch(pid)
    except ProcessLookupError:
        return True
    try:
        return watch.wait(seconds)
    finally:
        watch.close()
