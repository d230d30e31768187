"""Processes of a main module that they cannot import: its functions and classes go by value."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

import garrison

from .test_main import WAYS, Way, assert_ran_once, run

TEXT = """\
import multiprocessing, os, sys
import garrison as mp

mp.set_start_method("METHOD")
print("begins")
factor = 5

def scale(queue, n):
    queue.put((factor * n, __name__, mp.get_start_method()))

class Mine(mp.Process):
    def __init__(self, queue):
        super().__init__(name="mine")
        self.queue = queue
    def run(self):
        self.queue.put((self.name, factor, type(self).__name__))

queue = mp.Queue()
process = mp.Process(target=scale, args=(queue, 3))
process.start()
assert queue.get() == (15, "__main__", "METHOD")
process.join()
assert process.exitcode == 0
process = Mine(queue)
process.start()
assert queue.get() == ("mine", 5, "Mine")
process.join()
assert isinstance(process, multiprocessing.Process)
process = mp.get_context("METHOD").Process(target=lambda: sys.exit(os.getppid() != 0 and 7))
process.start()
process.join()
assert process.exitcode == 7
print("ends")
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_without_a_main_module_to_import(way: Way, method: str, tmp_path: Path) -> None:
    assert_ran_once(run(way, TEXT.replace("METHOD", method), tmp_path))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_are_of_the_standard_kinds(method: str) -> None:
    kind = garrison.get_context(method).Process
    standard = multiprocessing.get_context(method).Process  # type: ignore[attr-defined]
    assert issubclass(kind, standard)
    assert kind.__name__ == standard.__name__
    assert issubclass(garrison.Process, multiprocessing.Process)
