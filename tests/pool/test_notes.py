"""Each exception of a task has a note: which item, in which worker, after how long."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import _core
from garrison.pool import ThreadPool, _safe_repr
from garrison.pool._facts import MAX_NOTES, add_note, describe
from garrison.pool._payload_kinds import PayloadKind

NOTE = re.compile(r"(.*); attempt (\d+) in (.*), after ([\d.e+-]+) s", re.DOTALL)


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __repr__(self) -> str:
        raise RuntimeError("no repr of mine")


def fail_at_seven(value: Any) -> Any:
    if value == 7 or isinstance(value, Point):
        raise ValueError("seven", 7)
    return value


def divide(left: int, right: int) -> int:
    return left // right


def fail_twice(path: str) -> int:
    with Path(path).open("a") as file:
        file.write("x")
        if file.tell() < 3:
            raise OSError("again")
    raise ValueError("the third time")


def exit_at_three(value: int) -> int:
    if value == 3:
        os._exit(5)
    return value


def notes_of(error: BaseException) -> list[str]:
    notes: list[str] = error.__notes__  # type: ignore[attr-defined] # before 3.11
    return notes


def parts_of(note: str) -> tuple[str, ...]:
    found = NOTE.fullmatch(note)
    assert found is not None, note
    return found.groups()


def note_of(call: Callable[[], Any]) -> tuple[BaseException, str]:
    try:
        call()
    except Exception as error:
        (note,) = notes_of(error)
        return error.with_traceback(None), note
    raise AssertionError("it has not failed")


CALLS: dict[str, Callable[[Any], Any]] = {
    "map": lambda pool: pool.map(fail_at_seven, range(20)),
    "map in chunks": lambda pool: pool.map(fail_at_seven, range(20), 3),
    "starmap": lambda pool: pool.starmap(fail_at_seven, [(n,) for n in range(20)], 3),
    "map_async": lambda pool: pool.map_async(fail_at_seven, range(20)).get(),
    "imap": lambda pool: list(pool.imap(fail_at_seven, range(20))),
    "imap in chunks": lambda pool: list(pool.imap(fail_at_seven, range(20), 3)),
    "imap of an iterator": lambda pool: list(pool.imap(fail_at_seven, iter(range(20)), 3)),
    "imap_unordered": lambda pool: list(pool.imap_unordered(fail_at_seven, range(20))),
    "unordered chunks": lambda pool: list(pool.imap_unordered(fail_at_seven, range(20), 3)),
}


def check_notes(pool: Any, worker: str) -> None:
    for name, call in CALLS.items():
        error, note = note_of(partial(call, pool))
        what, attempt, where, seconds = parts_of(note)
        assert what == ("item 7: (7,)" if name == "starmap" else "item 7: 7"), name
        assert (type(error), error.args, attempt) == (ValueError, ("seven", 7), "1"), name
        assert re.match(worker, where), name
        assert 0 <= float(seconds) < 60


def test_a_note_says_which_item_failed(context: Any) -> None:
    with context.Pool(2) as pool:
        check_notes(pool, r"\w+PoolWorker-\d+ \(pid \d+\)$")
        _, note = note_of(lambda: pool.apply(divide, (1,), {"right": 0}))
        assert note.startswith("called with (1, right=0); attempt 1 in ")
        _, note = note_of(lambda: pool.map(lambda n: 1 // n, [1, 0]))
        assert note.startswith("item 1: 0; attempt 1 in ")


def test_threads_and_the_callers_thread_make_notes_too() -> None:
    with ThreadPool(2) as threads:
        check_notes(threads, r"garrison-thread-\d$")
    with garrison.Pool(engine="serial") as serial:
        check_notes(serial, "MainThread$")


def test_the_exception_is_what_it_was_but_for_the_note() -> None:
    with garrison.Pool(1) as pool:
        error, note = note_of(lambda: pool.map(fail_at_seven, [7]))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args, notes_of(again)) == (ValueError, ("seven", 7), [note])
    assert [name for name in vars(error) if name != "__notes__"] == []


def test_the_traceback_shows_the_note() -> None:
    with garrison.Pool(1) as pool:
        try:
            pool.map(fail_at_seven, [1, 7])
        except ValueError as error:
            text = "".join(traceback.format_exception(error))
    assert "item 1: 7; attempt 1 in " in text


def test_a_lost_worker_and_a_timeout_have_notes() -> None:
    with garrison.Pool(2) as pool:
        for call in (
            lambda: pool.map(exit_at_three, range(6), 2),
            lambda: list(pool.imap(exit_at_three, range(6))),
        ):
            error, note = note_of(call)
            assert isinstance(error, garrison.WorkerDied)
            assert note.startswith(f"item 3: 3; attempt 1 in a worker (pid {error.pid}), after ")
        _, note = note_of(lambda: pool.options(retries=1).map(exit_at_three, [3]))
        assert "item 0: 3; attempt 2 in a worker" in note
        late = pool.options(timeout=0.05)
        error, note = note_of(lambda: late.map(threading_wait, [1]))
        assert isinstance(error, garrison.TaskTimeout)
        assert float(parts_of(note)[3]) >= 0.05


def threading_wait(_: int) -> None:
    threading.Event().wait()


def test_attempts_are_counted(tmp_path: Any, context: Any) -> None:
    path = str(tmp_path / "calls")
    with context.Pool(1, retries=5, retry_on=OSError) as pool:
        _, note = note_of(lambda: pool.map(fail_twice, [path]))
        assert "; attempt 3 in " in note
        _, note = note_of(lambda: pool.options(retry_on=()).map(divide, [1]))
        assert "; attempt 1 in " in note
        # A call that has succeeded at its last attempt is none of the next one's.
        assert pool.options(retries=1).map(fail_once, [str(tmp_path / "once")]) == [1]
        _, note = note_of(lambda: pool.options(retry_on=()).map(divide, [1]))
        assert "; attempt 1 in " in note


def fail_once(path: str) -> int:
    file = Path(path)
    if not file.exists():
        file.touch()
        raise OSError(path)
    return 1


def lock_for_two(value: int) -> Any:
    return threading.Lock() if value == 2 else value


def test_the_item_whose_result_cannot_be_sent_is_named(context: Any) -> None:
    with context.Pool(1) as pool:
        error, note = note_of(lambda: pool.map(lock_for_two, range(8), 8))
        assert type(error).__name__ == "MaybeEncodingError"
        assert note.startswith("item 2: 2; ")


def test_a_chunk_is_unpickled_once_for_all_its_failures(monkeypatch: Any) -> None:
    unpickled, unpickle = [], _safe_repr.unpickle_for_repr

    def noting(data: Any) -> Any:
        unpickled.append(data)
        return unpickle(data)

    monkeypatch.setattr(_safe_repr, "unpickle_for_repr", noting)
    kind, payload = PayloadKind.LISTED_ITEMS, pickle.dumps(list(range(10)))
    texts = [_safe_repr.describe_item(kind, at, payload, "a task") for at in range(10)]
    assert texts == [str(at) for at in range(10)]
    assert len(unpickled) == 1
    assert _safe_repr.describe_item(kind, 0, pickle.dumps(["x"]), "another") == "'x'"


DIES_AT_A_CLAIM = """
import os
import sys

import garrison

if __name__ == "__main__":
    with garrison.Pool(1) as pool:
        pool.apply(abs, (-1,))
        os.unlink(sys.argv[1])  # from here on the first claim is the worker's end
        try:
            pool.apply(abs, (-1,))
        except garrison.WorkerDied as error:
            print(error.__notes__)
"""


@pytest.mark.skipif(not _core.CRASH_POINTS, reason="crash points are in a test build only")
def test_a_worker_killed_before_it_looked_at_the_clock_has_no_duration(tmp_path: Path) -> None:
    program, token = tmp_path / "program.py", tmp_path / "token"
    program.write_text(DIES_AT_A_CLAIM)
    token.touch()
    crash = {**os.environ, "GARRISON_CRASH": f"cell.claimed@{token}"}
    command = [sys.executable, str(program), str(token)]
    done = subprocess.run(
        command, check=False, env=crash, capture_output=True, text=True, timeout=60
    )
    assert re.fullmatch(
        r"\['called with \(-1\); attempt 1 in a worker \(pid \d+\)'\]\n", done.stdout
    ), done


def test_a_repr_of_the_users_is_not_called() -> None:
    with garrison.Pool(1) as pool:
        _, note = note_of(lambda: pool.map(fail_at_seven, [Point(3)]))
        assert "Point(x=3); attempt" in note
        _, note = note_of(lambda: pool.apply(fail_at_seven, (Point(3), "x" * 10_000)))
        assert len(note) < 300
    assert describe(Point(3)) == "Point(x=3)"
    assert (
        describe([[[[[1]]]]] * 100) == "[[[...]], [[...]], [[...]], [[...]], [[...]], [[...]], ...]"
    )
    assert len(describe("x" * 10**6)) == 60
    assert describe(10**1000) == "<int of 3322 bits>"


def test_large_arrays_are_described_by_their_shape() -> None:
    numpy = pytest.importorskip("numpy")
    with garrison.Pool(1) as pool:
        _, note = note_of(lambda: pool.apply(divide, (numpy.ones((300, 100)),)))
        assert "called with (<array of shape (300, 100)>); " in note
    assert describe(numpy.ones(3)) == "<array of shape (3,)>"


def test_a_shared_exception_of_threads_gets_each_note_once() -> None:
    one = ValueError("always the same")

    def fail(_: int) -> None:
        raise one

    with ThreadPool(1) as pool:
        for _ in range(3):
            with pytest.raises(ValueError, match="same"):
                pool.map(fail, [1])
    assert len(notes_of(one)) <= 3


def test_an_exception_that_is_raised_for_ever_does_not_grow_for_ever() -> None:
    error = ValueError("always the same")
    for number in range(2 * MAX_NOTES):
        add_note(error, f"item {number}")
    assert len(notes_of(error)) == MAX_NOTES
    assert notes_of(error)[-1] == f"item {2 * MAX_NOTES - 1}"


def test_lines_of_a_function_by_value_are_in_the_traceback(context: Any) -> None:
    source = "def fail(n):\n    return 1 // n  # here\n"
    names: dict[str, Any] = {"__name__": "__main__"}
    import linecache

    linecache.cache["<cell 1>"] = (len(source), None, source.splitlines(True), "<cell 1>")
    exec(compile(source, "<cell 1>", "exec"), names)
    with context.Pool(1) as pool:
        try:
            pool.map(names["fail"], [0])
        except ZeroDivisionError as error:
            text = str(error.__cause__)
    del linecache.cache["<cell 1>"]
    assert "return 1 // n  # here" in text


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="there tracebacks show notes")
def test_the_note_is_in_the_remote_traceback_before_311() -> None:
    with garrison.Pool(1) as pool:
        error, note = note_of(lambda: pool.map(fail_at_seven, [7]))
    assert note in str(error.__cause__)
