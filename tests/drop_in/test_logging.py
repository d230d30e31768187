"""`logging` takes queues of ours where it takes the standard library's."""

from __future__ import annotations

import logging
import logging.config
import logging.handlers
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import garrison

METHODS = ("fork", "spawn", "forkserver")


class Kept(logging.Handler):
    """Keeps what it is told."""

    texts: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.texts = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("garrison.test")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    logger.handlers.clear()


def speak(queue: Any) -> None:
    logger = logging.getLogger("garrison.test")
    logger.setLevel(logging.INFO)
    logger.handlers[:] = [logging.handlers.QueueHandler(queue)]
    logger.info("from %s", "a child")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_records_of_children_are_heard(logger: logging.Logger, method: str, name: str) -> None:
    context = garrison.get_context(method)
    queue, kept = getattr(context, name)(), Kept()
    listener = logging.handlers.QueueListener(queue, kept)
    listener.start()
    logger.addHandler(logging.handlers.QueueHandler(queue))
    logger.info("from here")
    process = context.Process(target=speak, args=(queue,))
    process.start()
    process.join()
    process.close()
    listener.stop()
    assert kept.texts == ["from here", "from a child"]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="refuses the standard library's queues too")
@pytest.mark.parametrize("name", ["Queue", "JoinableQueue"])
def test_a_configuration_takes_a_queue(logger: logging.Logger, name: str) -> None:
    handlers = {
        "kept": {"()": Kept},
        "queue": {
            "class": "logging.handlers.QueueHandler",
            "queue": getattr(garrison, name)(),
            "handlers": ["kept"],
        },
    }
    loggers = {logger.name: {"handlers": ["queue"], "level": "INFO"}}
    logging.config.dictConfig(
        {"version": 1, "disable_existing_loggers": False, "handlers": handlers, "loggers": loggers}
    )
    handler: Any = logger.handlers[0]
    handler.listener.start()
    logger.info("heard")
    handler.listener.stop()
    assert handler.listener.handlers[0].texts == ["heard"]
