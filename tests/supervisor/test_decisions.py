"""What a death means for a task, and when the starts of workers are hopeless."""

from __future__ import annotations

import signal

import pytest

from garrison.supervisor._decisions import (
    MAX_REFUSALS,
    Exit,
    StartFailures,
    decide_retry,
    strip_worker_frames,
)

KILLED = Exit(pid=7, exitcode=-signal.SIGKILL)
LATE = Exit(pid=7, exitcode=-signal.SIGKILL, late=True)


def new_task(retries: int, items: int = 1) -> dict[str, int]:
    return {
        "retries": retries,
        "items": items,
        "index": 0,
        "charged": 0,
        "attempts": 0,
        "fatalities": 0,
    }


def deaths_survived(task: dict[str, int], indices: list[int]) -> int:
    """Let workers die at these items, one after the other, until the task is lost."""
    for survived, index in enumerate(indices):
        again, attempts = decide_retry({**task, "index": index}, KILLED)
        if not again:
            return survived
        # What the table notes of a task that is entered again.
        task = {
            **task,
            "charged": index,
            "attempts": attempts,
            "fatalities": task["fatalities"] + 1,
        }
    return len(indices)


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_a_task_has_so_many_retries(retries: int) -> None:
    assert deaths_survived(new_task(retries), [0] * 10) == retries


@pytest.mark.parametrize("index", [0, 3, 9])
def test_an_item_of_a_chunk_has_no_more_retries_than_a_task(index: int) -> None:
    assert deaths_survived(new_task(2, items=10), [index] * 10) == 2


def test_the_next_item_has_its_own_retries() -> None:
    assert deaths_survived(new_task(2, items=10), [0, 0, 1, 1, 2, 2, 2]) == 6


def test_the_first_item_is_not_charged_twice_by_default() -> None:
    # A new task's record says "item 0 is charged" before anything has happened.
    assert decide_retry({**new_task(1), "attempts": 1}, KILLED) == (True, 1)


def test_items_that_kill_in_turn_come_to_an_end() -> None:
    assert deaths_survived(new_task(2, items=3), [0, 1, 2] * 10) == 6


def test_without_retries_no_item_is_tried_again() -> None:
    assert deaths_survived(new_task(0, items=10), [0, 1, 2]) == 0


def test_timed_out_task_is_never_retried() -> None:
    assert not decide_retry(new_task(retries=5), LATE)[0]
    assert not decide_retry(new_task(retries=5, items=10), LATE)[0]


@pytest.mark.parametrize(
    ("end", "number", "text"),
    [
        (Exit(7, -9), 9, "killed by SIGKILL"),
        (Exit(7, -11), 11, "killed by SIGSEGV"),
        (Exit(7, -99), 99, "killed by signal 99"),
        (Exit(7, 3), None, "left with exit code 3"),
        (Exit(7, 0), None, "left with exit code 0"),
        (Exit(7, None), None, "left with exit code None"),
        (Exit(7, -9, out_of_memory=True), 9, "killed because memory ran out"),
    ],
)
def test_text_of_an_exit(end: Exit, number: int | None, text: str) -> None:
    assert (end.signal, end.text) == (number, text)


def test_exit_info_has_the_attributes_of_the_error() -> None:
    facts = Exit(7, -9, stack="here", note="as well").exit_info
    assert facts == {
        "pid": 7,
        "exitcode": -9,
        "signal": 9,
        "out_of_memory": False,
        "late": False,
        "stack": "here",
        "note": "as well",
    }


@pytest.mark.parametrize(("workers", "limit"), [(1, 3), (2, 3), (3, 3), (8, 8)])
def test_the_pool_breaks_after_that_many_failed_starts_in_a_row(workers: int, limit: int) -> None:
    starts = StartFailures(workers)
    assert [starts.failed() for _ in range(limit)] == [False] * (limit - 1) + [True]


def test_one_successful_start_resets_the_failures() -> None:
    starts = StartFailures(2)
    for _ in range(10):
        assert not starts.failed()
        assert not starts.failed()
        starts.succeeded()


def test_a_pool_that_still_has_workers_waits_for_a_process() -> None:
    starts = StartFailures(2)
    assert not any(starts.refused(others=True) for _ in range(10 * MAX_REFUSALS))
    alone = [starts.refused(others=False) for _ in range(MAX_REFUSALS)]
    assert alone == [False] * (MAX_REFUSALS - 1) + [True]


def test_other_workers_reset_the_refusals() -> None:
    starts = StartFailures(2)
    for change in (starts.succeeded, lambda: starts.refused(others=True)):
        assert not any(starts.refused(others=False) for _ in range(MAX_REFUSALS - 1))
        change()
    assert not starts.refused(others=False)


CRASH = """Fatal Python error: Segmentation fault

Current thread 0x00007f0000000000 (most recent call first):
  File "/home/a/crash.py", line 6 in inner
  File "/home/a/crash.py", line 9 in task
  File "/lib/worker.py", line 130 in _run
  File "/lib/worker.py", line 98 in _serve
  File "/home/a/crash.py", line 4 in <module>

Extension modules: numpy.core (total: 1)"""

STACKS = {
    "crash": (
        CRASH,
        """Fatal Python error: Segmentation fault

Current thread 0x00007f0000000000 (most recent call first):
  File "/home/a/crash.py", line 6 in inner
  File "/home/a/crash.py", line 9 in task""",
    ),
    "builtin": ('Stack (most recent call first):\n  File "/lib/worker.py", line 130 in _run', ""),
    "crash in a builtin": (
        'Fatal Python error: Aborted\n\nStack (most recent call first):\n  File "/lib/worker.py"',
        "Fatal Python error: Aborted",
    ),
    "cut off": (
        'Stack (most recent call first):\n  File "/home/a/crash.py", line 6 in inner\n  Fi',
        'Stack (most recent call first):\n  File "/home/a/crash.py", line 6 in inner\n  Fi',
    ),
    "none": ("", ""),
    "words": ("the initializer failed\n  File ...", "the initializer failed\n  File ..."),
}


@pytest.mark.parametrize("case", STACKS)
def test_a_stack_tells_of_the_task_only(case: str) -> None:
    stack, expected = STACKS[case]
    assert strip_worker_frames(stack, "/lib/worker.py") == expected
