"""``logs=True``: what tasks print, warn and log, shown by the program in whole lines.

::

    worker   sys.stdout, sys.stderr, Logger.handle ──▶ queue in shared memory ──▶ program: its
             streams, its handlers of `logging`

Each write of a task is one item of the queue, so what a worker has written before it was killed is
there. The program puts the pieces of a line together, worker by worker. A thread of it waits for
output; who takes a result shows first what its task has written.

The queue is unpickled by the program without a key: only its own workers can write there, through
shared memory that they have from it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading

from garrison._typing import Any
from garrison.pool._worker_logs import LOG, LogWriter
from garrison.sync import Queue

__all__ = ["LogReader"]

_END: Any = None
MAX_UNSHOWN = 10_000
"""Pieces of output that the program may be behind: a task that writes more waits."""


class LogReader:
    """The program's side: shows the output of a pool's tasks."""

    def __init__(self) -> None:
        self._queue: Queue[Any] = Queue(MAX_UNSHOWN)
        self._lock = threading.RLock()
        self._begun: dict[tuple[int, str], tuple[str, list[str]]] = {}
        """Lines that have no end yet, by worker and stream: the label, and the pieces of text."""
        self._pid = os.getpid()
        self._is_closed = False
        self._writer = LogWriter(self._queue, 0)
        self._thread = threading.Thread(target=self._run, name="garrison-logs", daemon=True)
        self._thread.start()

    @property
    def writer(self) -> LogWriter:
        """What functions are sent with."""
        level = _root_level()
        if self._writer.level != level:
            self._writer = LogWriter(self._queue, level)
        return self._writer

    def _run(self) -> None:
        while True:
            # Nothing is taken here: whoever takes an item, under the lock, shows it at once.
            self._queue._poll(None)
            with self._lock:
                if not self._show_there():
                    return

    def drain(self) -> None:
        """Show what there is, and lines that their workers cannot end any more."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._show_there()
            for pid, stream in list(self._begun):
                if not _is_alive(pid):
                    self._end_line(pid, stream)

    def close(self) -> None:
        """Show the rest, and end the thread."""
        if os.getpid() != self._pid or self._is_closed:
            return
        self._is_closed = True
        self._queue.put(_END)
        self._thread.join()
        with self._lock:
            self._show_there()
            for pid, stream in list(self._begun):
                self._end_line(pid, stream)

    def _show_there(self) -> bool:
        """Show what is in the queue; False if the end was among it."""
        goes_on = True
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._queue.get(block=False)
                if item is _END:
                    goes_on = False
                elif item[0] == LOG:
                    _handle(item[1])
                else:
                    self._add(*item)
        return goes_on

    def _add(self, stream: str, pid: int, label: str, text: str) -> None:
        who, begun = self._begun.setdefault((pid, stream), (label, []))
        first, *others = text.split("\n")
        begun.append(first)
        if not others:
            return
        *lines, last = others
        if last:
            self._begun[pid, stream] = label, [last]
        else:
            del self._begun[pid, stream]
        whole = [f"[{who}] {''.join(begun)}\n", *[f"[{label}] {line}\n" for line in lines]]
        _write(stream, "".join(whole))

    def _end_line(self, pid: int, stream: str) -> None:
        label, pieces = self._begun.pop((pid, stream))
        _write(stream, f"[{label}] {''.join(pieces)}\n")


def _write(stream: str, text: str) -> None:
    file = getattr(sys, stream)
    if text and file is not None:
        # It may be closed, or a pipe that nobody reads any more, or an object of the program.
        with contextlib.suppress(Exception):
            file.write(text)
            file.flush()


def _handle(values: dict[str, Any]) -> None:
    """Give a worker's log record to the program's handlers."""
    import logging

    record = logging.makeLogRecord(values)
    logger = logging.getLogger(record.name)
    try:
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:
        logging.Handler().handleError(record)  # a filter of the program, for example


def _root_level() -> int:
    """The program's level, which fresh workers take over."""
    logging: Any = sys.modules.get("logging")
    return 0 if logging is None else int(logging.getLogger().level)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
