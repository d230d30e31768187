"""`logging.config` and handlers of the standard library with our queues."""

from __future__ import annotations

import logging.config
import queue as queues
import sys
from pathlib import Path

import pytest

from .running import run

PROGRAM = """
import garrison as multiprocessing
import logging, logging.config, logging.handlers

def work(queue, number):
    root = logging.getLogger()
    root.handlers[:] = [logging.handlers.QueueHandler(queue)]
    root.setLevel(logging.INFO)
    logging.getLogger("worker").info("message %d", number)

class Keep(logging.Handler):
    def __init__(self):
        super().__init__()
        self.seen = []
    def emit(self, record):
        self.seen.append((record.name, record.getMessage()))

if __name__ == "__main__":
    multiprocessing.set_start_method("METHOD")
    queue, keep = multiprocessing.Queue(-1), Keep()
    listener = logging.handlers.QueueListener(queue, keep)
    listener.start()
    processes = [multiprocessing.Process(target=work, args=(queue, n)) for n in range(4)]
    for process in processes: process.start()
    for process in processes: process.join()
    listener.stop()
    print(sorted(keep.seen))
"""


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_listener_hears_what_processes_log(tmp_path: Path, method: str) -> None:
    expected = [("worker", f"message {n}") for n in range(4)]
    assert run(tmp_path, PROGRAM.replace("METHOD", method)) == f"{expected}\n"


def has_queue_handlers() -> bool:
    """Whether `dictConfig` takes a `QueueHandler` with a queue alone; 3.12.1 does not."""
    handler = {"class": "logging.handlers.QueueHandler", "queue": queues.Queue()}
    try:
        logging.config.dictConfig(
            {"version": 1, "disable_existing_loggers": False, "handlers": {"queue": handler}}
        )
    except ValueError:
        return False
    return True


CONFIGURED = """
import garrison as multiprocessing
import logging, logging.config

if __name__ == "__main__":
    queue = QUEUE
    logging.config.dictConfig({
        "version": 1,
        "handlers": {"queue": {"class": "logging.handlers.QueueHandler", "queue": queue}},
        "root": {"level": "INFO", "handlers": ["queue"]},
    })
    logging.getLogger("here").info("told %s", "so")
    print(queue.get(timeout=20).getMessage())
"""


@pytest.mark.watchdog(120)
@pytest.mark.skipif(sys.version_info < (3, 12), reason="dictConfig takes queues from 3.12 on")
@pytest.mark.parametrize("queue", ["multiprocessing.Queue()", "multiprocessing.Manager().Queue()"])
def test_dict_config_takes_our_queues(tmp_path: Path, queue: str) -> None:
    if not has_queue_handlers():
        pytest.skip("this Python's dictConfig takes no queue, not even the standard library's")
    assert run(tmp_path, CONFIGURED.replace("QUEUE", queue)) == "told so\n"
