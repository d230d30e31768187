"""Engines over executors that last as long as the program, for pools that it makes."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

from garrison.engines import OverExecutor

WORKERS = 2
START_S = 0.1
"""Long enough for a task that each worker gets one."""


class OverThreads(OverExecutor):
    """``GARRISON_ENGINE=engines.executors:OverThreads``."""

    def __init__(self) -> None:
        super().__init__(begun(ThreadPoolExecutor(WORKERS)))


class OverProcesses(OverExecutor):
    """``GARRISON_ENGINE=engines.executors:OverProcesses``."""

    def __init__(self) -> None:
        super().__init__(begun(processes()))


def processes() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORKERS, multiprocessing.get_context("fork"))


def begun(executor: Executor) -> Executor:
    """Start all workers of an executor: later no test starts one."""
    tasks = [executor.submit(time.sleep, START_S) for _ in range(WORKERS)]
    concurrent.futures.wait(tasks)
    return executor
