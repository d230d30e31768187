"""``logs=True``: what tasks print, warn and log appears in the program, in whole lines."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.engines import Serial
from garrison.pool import ThreadPool
from garrison.pool._logs import MAX_UNSHOWN
from waiting import wait_until

LABEL = re.compile(r"\[\w+PoolWorker-\d+ (.*)\] (.*)")


def say(value: Any) -> Any:
    print("one", value)
    print("two\nthree", end=" ")
    print(value)
    print("error", value, file=sys.stderr)
    return value


def say_in_pieces(value: int) -> None:
    for letter in "abcdefgh" * 20:
        sys.stdout.write(letter * 10)
        sys.stdout.flush()
    sys.stdout.write(f"{value}\n")


def say_and_die(_: int) -> None:
    print("whole")
    sys.stdout.write("partial")
    os.kill(os.getpid(), signal.SIGKILL)


def say_half(value: int) -> None:
    print("half", value, end="")


def log(value: int) -> None:
    logger = logging.getLogger("my.tasks")
    logger.debug("debug %d", value)
    logger.warning("warning %d", value, extra={"customer": 7, "handle": object()})
    try:
        int("inside")
    except ValueError:
        logger.exception("failed %d", value)


def warn(value: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"careful {value}", stacklevel=1)


def lines(text: str) -> list[tuple[str, ...]]:
    """Return task and text of each line, or fail if one is not whole."""
    assert not text or text[-1] == "\n"
    found = [(line, LABEL.fullmatch(line)) for line in text.splitlines()]
    assert all(match for _, match in found), text
    return [match.groups() for _, match in found if match]


def test_what_a_task_prints_is_shown_before_its_result(context: Any, capsys: Any) -> None:
    with context.Pool(2) as pool:
        view = pool.options(logs=True)
        for call in (
            lambda: view.apply(say, (5,)),
            lambda: view.map(say, [5]),
            lambda: list(view.imap(say, [5])),
            lambda: view.apply_async(say, (5,)).get(),
            lambda: view.options(on_error="return").map(say, [5]),
        ):
            call()
            out, err = capsys.readouterr()
            assert lines(out) == [("say(5)", "one 5"), ("say(5)", "two"), ("say(5)", "three 5")]
            assert lines(err) == [("say(5)", "error 5")]


def test_output_of_the_last_task_is_shown_before_the_progress_ends(
    context: Any, monkeypatch: Any
) -> None:
    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            shown.append(text)
            return len(text)

    shown: list[Any] = []
    monkeypatch.setattr(sys, "stdout", Stream())
    with context.Pool(1, logs=True, progress=lambda done, _: shown.append(done)) as pool:
        pool.map(say_half, [1])
    (line,) = [each for each in shown if isinstance(each, str) and "half 1" in each]
    assert shown.index(line) < shown.index(1)


def test_lines_of_two_workers_are_never_mixed(context: Any, capsys: Any) -> None:
    with context.Pool(2, logs=True) as pool:
        pool.map(say_in_pieces, range(8), 1)
    found = lines(capsys.readouterr().out)
    assert sorted(task for task, _ in found) == [f"say_in_pieces({n})" for n in range(8)]
    text = "".join(letter * 10 for letter in "abcdefgh" * 20)
    assert sorted(line for _, line in found) == [f"{text}{n}" for n in range(8)]


def test_a_killed_workers_line_appears_whole(context: Any, capsys: Any) -> None:
    with context.Pool(1, logs=True) as pool:
        with pytest.raises(garrison.WorkerDied):
            pool.apply(say_and_die, (1,))
        pool.apply(say, (2,))
    found = [line for _, line in lines(capsys.readouterr().out)]
    assert found == ["whole", "partial", "one 2", "two", "three 2"]


def test_a_line_ends_with_its_task(capsys: Any) -> None:
    with garrison.Pool(1, logs=True) as pool:
        pool.map(say_half, [1, 2], 1)
    found = lines(capsys.readouterr().out)
    assert found == [("say_half(1)", "half 1"), ("say_half(2)", "half 2")]


def test_log_records_are_handled_by_the_program(context: Any, caplog: Any, capsys: Any) -> None:
    with context.Pool(1, logs=True) as pool:
        pool.map(log, [3])
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", "warning 3"),
        ("ERROR", "failed 3"),
    ]
    warning, failed = caplog.records
    assert (warning.name, warning.customer, warning.taskName) == ("my.tasks", 7, "log(3)")
    assert "PoolWorker" in warning.processName
    assert warning.process != os.getpid()
    assert "ValueError: invalid literal" in failed.exc_text
    assert "warning 3" not in capsys.readouterr().err


def test_a_level_of_the_program_counts(context: Any, caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG), context.Pool(1, logs=True) as pool:
        pool.map(log, [3])
    assert caplog.records[0].getMessage() == "debug 3"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_warnings_are_shown(method: str, capsys: Any) -> None:
    # A forked worker has pytest's own record of warnings.
    with garrison.get_context(method).Pool(1, logs=True) as pool:
        pool.map(warn, [3])
    (_, first), *_ = lines(capsys.readouterr().err)
    assert first.endswith("UserWarning: careful 3")


def test_without_the_option_workers_write_themselves(capfd: Any) -> None:
    with garrison.Pool(1) as pool:
        pool.options(logs=True).apply(abs, (-1,))
        pool.apply(os.write, (1, b"plain\n"))
    assert capfd.readouterr().out == "plain\n"


def test_state_is_no_part_of_the_label(capsys: Any) -> None:
    with garrison.Pool(1, list, pass_state=True, logs=True) as pool:
        pool.apply(lambda _state, value: print("got", value), (4,))
    assert lines(capsys.readouterr().out) == [("<lambda>(4)", "got 4")]


def test_a_failing_task_is_shown_too(capsys: Any) -> None:
    def fail(value: int) -> None:
        print("about to fail")
        raise ValueError(value)

    with garrison.Pool(1, logs=True) as pool, pytest.raises(ValueError, match="3"):
        pool.map(fail, [3])
    assert lines(capsys.readouterr().out) == [("fail(3)", "about to fail")]


def test_tasks_of_this_process_write_to_its_streams(capsys: Any) -> None:
    for make in (
        lambda: ThreadPool(1, logs=True),
        lambda: garrison.Pool(engine="serial", logs=True),
        lambda: garrison.Pool(engine=Serial(pickle=True), logs=True),
    ):
        with make() as pool:
            assert pool.map(say, [1]) == [1]
        assert capsys.readouterr().out == "one 1\ntwo\nthree 1\n"


def test_engines_elsewhere_refuse_it() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor, garrison.Pool(engine=executor) as pool:
        for options in ({"logs": True}, {"finalizer": say}):
            with pytest.raises(ValueError, match=r"this engine's workers|a whole pool"):
                pool.options(**options)


def test_a_closed_stream_of_the_program_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = (tmp_path / "out").open("w")
    closed.close()
    with garrison.Pool(1, logs=True) as pool, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        assert pool.map(say, [1]) == [1]
        patch.setattr(sys, "stdout", None)
        assert pool.map(say, [1]) == [1]


def log_badly(value: int) -> int:
    logging.getLogger("my.tasks").warning("%d", "no number")
    return value


def test_a_record_that_cannot_be_formatted_fails_no_task(capsys: Any) -> None:
    with garrison.Pool(1, logs=True) as pool:
        assert pool.apply(log_badly, (7,)) == 7
    shown = capsys.readouterr().err
    assert "--- Logging error ---" in shown
    assert "log_badly(7)] TypeError" in shown


def write_bytes(_: int) -> str:
    try:
        sys.stdout.write(b"x")  # type: ignore[arg-type] # as a program may
    except TypeError as error:
        return str(error)
    return "written"


def test_bytes_are_no_text(capsys: Any) -> None:
    with garrison.Pool(1, logs=True) as pool:
        assert pool.apply(write_bytes, (1,)) == "write() argument must be str, not bytes"
    assert capsys.readouterr().out == ""


class Failing:
    def write(self, _: str) -> int:
        raise LookupError("no screen")

    def flush(self) -> None:
        pass


def refuse(_: object) -> bool:
    raise LookupError("no filter")


def test_a_failing_stream_or_filter_of_the_program_costs_no_result(
    capsys: Any, monkeypatch: Any
) -> None:
    logger = logging.getLogger("my.tasks")
    with garrison.Pool(1, logs=True) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", Failing())
            assert pool.apply(say, (1,)) == 1
        logger.addFilter(refuse)
        try:
            pool.apply(log, (1,))
        finally:
            logger.removeFilter(refuse)
        assert pool.apply(say, (2,)) == 2
    shown = capsys.readouterr()
    assert "one 2" in shown.out
    assert "no filter" in shown.err


def write_many(count: int) -> int:
    for _ in range(count):
        sys.stdout.write("x")
    return count


def test_a_task_waits_for_a_program_that_is_far_behind(capsys: Any) -> None:
    with garrison.Pool(1, logs=True) as pool:
        log: Any = pool._backend.show_output()
        with log._lock:
            result = pool.apply_async(write_many, (MAX_UNSHOWN + 1000,))
            wait_until(log._queue.full)
            assert not result.ready()
        assert result.get() == MAX_UNSHOWN + 1000
    assert capsys.readouterr().out.count("x") == MAX_UNSHOWN + 1000
