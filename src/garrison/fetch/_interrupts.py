"""Ctrl-C, SIGTERM and SIGHUP: a run ends in order, anything else at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal came while no run was going on."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Interrupts:
    """Handles the signals that ask a process to end, until closed.

    One that is ignored stays ignored. Only a main thread can handle any.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._stop: Callable[[int], None] | None = None
        in_charge = threading.current_thread() is threading.main_thread()
        self._before = {
            number: signal.signal(number, self._on_signal)
            for number in _SIGNALS
            if in_charge and signal.getsignal(number) != signal.SIG_IGN
        }

    def close(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def stopping(self, stop: Callable[[int], None]) -> Iterator[None]:
        """Have signals call ``stop`` while the block runs."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None

    def _on_signal(self, signum: int, _frame: object) -> None:
        if os.getpid() != self._pid:  # a child that was forked with this handler
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif self._stop is not None:
            self._stop(signum)
        else:
            raise Interrupted(signum)
