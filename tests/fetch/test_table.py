"""The table on a terminal: no line is longer than it is wide, and no text is cut into letters."""

from __future__ import annotations

import pytest

from garrison.fetch._table import COLUMNS, fitted_rows, shorten

LONG = "https://www.example.com/a/very/long/path/to/some/article-with-a-title.html"
ROWS = [
    (
        "www.qq.com",
        "https://www.qq.com/",
        "200",
        "text/html",
        "4,711",
        "0.123",
        "pages/www.qq.com.html",
    ),
    (LONG, "=", "404", "-", "0", "0.001", "failed: 404 Not Found"),
    ("漢字.example", LONG * 3, "200", "text/html", "1,000,000", "12.000", f"pages/{'x' * 90}.html"),
]


@pytest.mark.parametrize("width", [10, 20, 40, 60, 79, 80, 100, 119, 160, 200, 400])
def test_lines_fit_the_terminal(width: int) -> None:
    lines = fitted_rows(ROWS, width)
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("site"[:width])


def test_a_wide_terminal_has_all_columns() -> None:
    head, first, *_ = fitted_rows(ROWS[:1], 120)
    assert head.split("  ")[0] == "site"
    assert all(name in head for name in COLUMNS)
    assert all(cell in first for cell in ROWS[0])


def test_a_narrow_terminal_has_what_matters() -> None:
    head, *_, last = fitted_rows(ROWS, 50)
    assert head.split() == ["site", "status", "file", "or", "reason"]
    assert last.count("…") == 1


def test_a_reason_keeps_its_beginning() -> None:
    assert fitted_rows(ROWS, 40)[2].endswith("  failed: 404 Not Fo…")


@pytest.mark.parametrize("width", range(1, 80))
def test_what_is_left_out_is_the_middle(width: int) -> None:
    short = shorten(LONG, width)
    assert len(short) <= width
    start, mark, end = short.partition("…")
    assert LONG.startswith(start)
    assert mark == "" or LONG.endswith(end)
