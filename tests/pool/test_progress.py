"""`progress`: bars on a terminal, lines elsewhere, or what the program gives."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any, ClassVar

import pytest

import garrison
from garrison import Options
from garrison.pool._progress_text import bar_line, columns, facts

PROGRAM = """
import garrison
def square(n):
    return n * n
with garrison.Pool(1) as pool:
    view = pool.options(progress=True)
    assert {call} == [0, 1, 4, 9, 16]
print("done")
"""
CALLS = {
    "map": "view.map(square, range(5))",
    "starmap": "view.starmap(square, [(n,) for n in range(5)])",
    "map_async": "view.map_async(square, range(5)).get()",
    "imap": "list(view.imap(square, range(5)))",
    "imap_unordered": "sorted(view.imap_unordered(square, range(5)))",
}


FORCING = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
PLAIN = {name: value for name, value in os.environ.items() if name not in FORCING}
TERMINAL = {**PLAIN, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}


def read_all(terminal: int) -> str:
    """What was shown until the last process with the other end is gone."""
    shown = b""
    try:
        while text := os.read(terminal, 4096):
            shown += text
    except OSError:  # how Linux says that a terminal has nobody left
        pass
    return shown.decode()


def on_terminal(program: str, *, stdout: int | None = None, code: int = 0) -> str:
    """Run a program on a terminal; return all that was sent to it."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdout=theirs if stdout is None else stdout, stderr=theirs, env=TERMINAL
    ) as process:
        os.close(theirs)
        shown = read_all(ours)
    os.close(ours)
    assert process.returncode == code, shown
    return shown


def rows(shown: str) -> list[str]:
    """What is on the terminal in the end."""
    screen, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", shown):
        if part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            screen.extend([""] * (row + 1 - len(screen)))
        elif part == "\x1b[A":
            row -= 1
            assert row >= 0
        elif part == "\x1b[K":
            screen[row] = screen[row][:column]
        elif part == "\x1b[J":
            screen[row:] = [screen[row][:column]]
        else:
            assert "\x1b" not in part
            screen[row] = (
                f"{screen[row][:column]:{column}}{part}{screen[row][column + len(part) :]}"
            )
            column += len(part)
    return screen


# --- On a terminal --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_a_terminal_shows_a_progress_bar(name: str) -> None:
    shown = rows(on_terminal(PROGRAM.format(call=CALLS[name])))
    assert re.fullmatch(r"square  ━{40}  5/5  100%  .*/s  0:0\d", shown[0])
    assert shown[1:] == ["done", ""]


def test_an_input_without_a_length_has_an_open_end() -> None:
    shown = rows(on_terminal(PROGRAM.format(call="list(view.imap(square, iter(range(5))))")))
    assert "5/?" in shown[0]


def test_a_label_is_shown() -> None:
    call = "pool.options(progress='of five').map(square, range(5))"
    assert rows(on_terminal(PROGRAM.format(call=call)))[0].startswith("of five  ━━")


def test_error_restores_the_terminal() -> None:
    shown = on_terminal(PROGRAM.format(call="view.map(lambda n: 1 // n, range(5))"), code=1)
    screen = rows(shown)
    assert screen[0].startswith("<lambda>  ")
    assert "Traceback" in screen[1] or screen[1].startswith("multiprocessing.pool.RemoteTraceback")
    assert "ZeroDivisionError" in shown


ABOVE = """
import sys, garrison
with garrison.Pool(1) as pool:
    for n in pool.options(progress="bar").imap(abs, range(3)):
        print("printed", n)
        print("with", end=" ")
        sys.stderr.write("no end yet\\n")
        print("end")
"""


def test_prints_are_above_the_bar() -> None:
    shown = rows(on_terminal(ABOVE))
    lines = [line for n in range(3) for line in (f"printed {n}", "no end yet", "with end")]
    assert shown[:-2] == lines
    assert shown[-2].startswith("bar  ━━")
    assert shown[-1] == ""


def test_prints_into_a_file_stay_there(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        shown = rows(on_terminal(ABOVE, stdout=file.fileno()))
    assert [line for line in shown if line.startswith("with")] == []
    assert (tmp_path / "out").read_text() == "".join(f"printed {n}\nwith end\n" for n in range(3))


def test_a_line_of_a_worker_is_above_the_bar() -> None:
    program = """
import os, garrison
def say(_):
    os.write(1, b"from the worker\\n")
with garrison.Pool(1) as pool:
    pool.options(progress="bar").map(say, range(1))
"""
    shown = rows(on_terminal(program))
    assert shown[0] == "from the worker"
    assert [line.split("  ")[0] for line in shown[1:]] == ["bar", ""]


def test_several_bars_are_below_each_other() -> None:
    program = """
import garrison
with garrison.Pool(1) as one, garrison.Pool(1) as two:
    pairs = zip(one.options(progress="one").imap(abs, range(4)),
                two.options(progress="two").imap(abs, range(4)))
    for a, b in pairs:
        print("both", a, b)
    try: next(pairs)
    except StopIteration: pass
print("end")
"""
    shown = rows(on_terminal(program))
    assert shown[:4] == [f"both {n} {n}" for n in range(4)]
    assert [line.split()[0] for line in shown[4:-1]] == ["one", "two", "end"]


def test_ended_bars_of_a_loop_do_not_pile_up() -> None:
    program = """
import garrison
def inner(n):
    with garrison.Pool(1) as pool:
        return pool.options(progress=f"inner {n}").map(abs, range(2))
with garrison.pool.ThreadPool(1) as threads:
    for _ in threads.options(progress="outer").imap(inner, range(6)): pass
"""
    names = [line.split("  ")[0] for line in rows(on_terminal(program))]
    assert names == ["outer", "inner 3", "inner 4", "inner 5", ""]


def test_a_forked_child_prints_as_without_bars() -> None:
    program = """
import os, sys, garrison
with garrison.Pool(1) as pool:
    for n in pool.options(progress="bar").imap(abs, range(2)):
        if n == 0:
            print("kept by the parent", end="", flush=True)
            child = os.fork()
            if not child:
                assert type(sys.stdout).__name__ == "TextIOWrapper"
                sys.stdout.write("")
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
"""
    assert on_terminal(program).count("kept by the parent") == 1


def test_a_kept_stream_prints_after_the_bars_too() -> None:
    program = """
import sys, garrison
with garrison.Pool(1) as pool:
    for n in pool.options(progress="bar").imap(abs, range(1)):
        kept = sys.stdout
assert sys.stdout is not kept
print("later", file=kept)
print("begun", end="", file=kept)
"""
    shown = rows(on_terminal(program))
    assert shown[0].startswith("bar")
    assert shown[1:] == ["later", "begun"]


def test_a_bar_without_a_reader_moves_too() -> None:
    program = """
import garrison
with garrison.Pool(1) as pool:
    pool.options(progress="nobody waits").map_async(abs, range(5))
    pool.close()
    pool.join()
"""
    assert "5/5" in rows(on_terminal(program))[0]


# --- Where nothing can be drawn -------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_a_log_has_lines(name: str) -> None:
    program = PROGRAM.format(call=CALLS[name])
    done = subprocess.run(
        [sys.executable, "-c", program], env=PLAIN, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert re.fullmatch(r"square: 5/5, 100%, .*/s, 0:0\d\n", done.stderr)


def test_a_log_has_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("garrison.pool._progress_views.FIRST_LINE_S", 0.0)
    with garrison.Pool(1) as pool:
        assert list(pool.options(progress="often\x1b").imap(abs, range(3))) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        f"often : {count}/3" for count in (1, 2, 3, 3)
    ]


def test_a_dumb_terminal_gets_lines() -> None:
    program = f"import os\nos.environ['TERM'] = 'dumb'\n{PROGRAM.format(call=CALLS['map'])}"
    shown = on_terminal(program)
    assert "\x1b" not in shown
    assert "square: 5/5" in shown


@pytest.mark.parametrize("closing", ["sys.stderr = None", "os.close(2)", "sys.stderr.close()"])
def test_nothing_is_lost_without_a_standard_error(closing: str) -> None:
    program = f"import os, sys\n{closing}\n{PROGRAM.format(call=CALLS['map'])}"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=PLAIN, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_a_worker_draws_nothing() -> None:
    program = """
import garrison
def inner(_):
    return garrison.pool.ThreadPool(1).options(progress="within").map(abs, range(2))
with garrison.Pool(1) as pool:
    assert pool.map(inner, range(1)) == [[0, 1]]
"""
    shown = on_terminal(program)
    assert "\x1b" not in shown
    assert "within: 2/2, 100%" in shown


# --- In a notebook --------------------------------------------------------------------------------


def test_a_notebook_gets_html_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: list[dict[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            assert raw
            outputs.append(data)

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        outputs.append(data)
        return Handle()

    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    shown: Any = types.ModuleType("IPython.display")
    shown.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    with garrison.Pool(1) as pool:
        assert pool.options(progress="<b>").map(abs, range(5)) == list(range(5))
    first, last = outputs[0], outputs[-1]
    assert "&lt;b&gt;" in first["text/html"]
    assert 'value="0.0000"' in first["text/html"]
    assert 'value="1.0000"' in last["text/html"]
    assert last["text/plain"].startswith("<b>: 5/5, 100%")


# --- What the program gives -----------------------------------------------------------------------


def test_a_callable_is_told_how_many_are_done() -> None:
    told: list[tuple[int, int | None]] = []

    def tell(done: int, total: int | None) -> None:
        told.append((done, total))

    with garrison.Pool(1, progress=tell) as pool:
        assert list(pool.imap(abs, range(3))) == [0, 1, 2]
        assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
        told.clear()
        assert list(pool.imap(abs, iter(range(1)))) == [0]
        assert told == [(0, None), (1, None)]
        told.clear()
        assert pool.map(abs, range(1000), chunksize=250) == list(range(1000))
        assert told == [(0, 1000), (250, 1000), (500, 1000), (750, 1000), (1000, 1000)]
        told.clear()
        assert pool.apply(abs, (-1,)) == 1
        assert told == []


def wrong(done: int, _total: int | None) -> None:
    if done == 2:
        raise LookupError("not so many")


def test_an_error_of_the_callable_is_a_warning_and_loses_nothing() -> None:
    with garrison.Pool(1, progress=wrong) as pool:
        with pytest.warns(RuntimeWarning, match="LookupError: not so many; it is not") as seen:
            assert list(pool.imap(abs, range(5))) == [0, 1, 2, 3, 4]
        assert len(seen) == 1
        with pytest.warns(RuntimeWarning, match="wrong at"):
            assert pool.map(abs, range(5)) == [0, 1, 2, 3, 4]


def test_a_warning_that_is_an_error_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with garrison.Pool(1, progress=wrong) as pool, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(pool.imap(abs, range(5))) == [0, 1, 2, 3, 4]
    assert "RuntimeWarning: progress=<function wrong" in capsys.readouterr().err


class LikeTqdm:
    """What the bars of tqdm have, and how they compare."""

    made: ClassVar[list[LikeTqdm]] = []

    def __init__(self, total: int | None = None, desc: str = "") -> None:
        self.total, self.desc, self.n, self.closed = total, desc, 0, False
        self.made.append(self)

    def update(self, n: int = 1) -> None:
        self.n += n

    def refresh(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def __bool__(self) -> bool:
        raise TypeError("bool() undefined")

    def __eq__(self, other: object) -> bool:
        return bool(self.position == other.position)  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]


def test_a_class_of_bars_makes_one_for_each_call() -> None:
    LikeTqdm.made.clear()
    with garrison.Pool(1, progress=LikeTqdm) as pool:
        pool.map(abs, range(5))
        list(pool.imap(abs, iter(range(3))))
    seen = [(each.desc, each.total, each.n, each.closed) for each in LikeTqdm.made]
    assert seen == [("abs", 5, 5, True), ("abs", None, 3, True)]


def test_a_bar_of_the_program_is_counted_up_and_stays_open() -> None:
    bar = LikeTqdm()
    with garrison.Pool(1) as pool:
        view = pool.options(progress=bar)
        view.map(abs, range(5))
        list(view.options(retries=1).imap(abs, range(3)))
        assert repr(view).endswith("Options(progress=LikeTqdm(...))>")
    assert (bar.total, bar.n, bar.closed) == (5, 8, False)


def test_tqdm_itself(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # its thread would stay
    with garrison.Pool(1) as pool, tqdm(desc="given") as bar:
        assert pool.options(progress=bar).map(abs, range(5)) == list(range(5))
        assert pool.options(progress=tqdm).map(abs, range(4)) == list(range(4))
    shown = capsys.readouterr().err
    assert "given: 100%" in shown
    assert "abs: 100%" in shown
    assert "4/4" in shown


@pytest.mark.parametrize("given", [3.5, [], object()])
def test_another_kind_of_value_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="progress must be True, a label, a callable, or a class"):
        Options(progress=given)
    with pytest.raises(ValueError, match="progress must have a label"):
        Options(progress="")
    assert Options(progress=None) == Options(progress=0) == Options()


# --- The text -------------------------------------------------------------------------------------


def test_what_is_known_is_shown() -> None:
    assert facts(0, 10, 0.0, ended=False) == ["0/10", "0%", "", "0:00", ""]
    assert facts(1, 3, 4000.0, ended=False)[2:] == ["4,000.0 s each", "1:06:40", "2:13:20 left"]
    assert facts(5000, None, 1.0, ended=False) == ["5,000/?", "", "5,000/s", "0:01", ""]
    assert facts(0, 0, 0.0, ended=True) == ["0/0", "", "", "0:00", ""]


@pytest.mark.parametrize(
    "label", ["short", "a label that is longer than most", "漢字の名前です", ""]
)
def test_a_line_fits_any_width(label: str) -> None:
    parts = facts(123, 1000, 61.0, ended=False)
    for width in range(24, 130):
        line = bar_line(label, parts, 0.123, width, ascii_only=False, colour=False)
        assert columns(line) <= width
        assert "123/1,000" in line
    assert "0:01:01" not in line
    assert "2.0/s" in line
    assert "left" in line
