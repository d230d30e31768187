"""What the input has: a site a line, a column of a table, or a field of JSON objects."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from garrison.errors import GarrisonError

__all__ = ["LINES", "Entry", "InputError", "InputFormat", "entries", "parse_format"]

_COMMENT = re.compile(r"(?:^|\s)#.*", re.DOTALL)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DELIMITERS = {"csv": ",", "tsv": "\t"}


class _TabSeparated(csv.excel_tab):
    quoting = csv.QUOTE_NONE


class InputError(GarrisonError):
    """The input has no such column."""


class InputFormat(NamedTuple):
    """A format.

    Attributes
    ----------
    kind
        ``lines``, ``csv``, ``tsv`` or ``jsonl``.
    field
        The column, by its name or number, or the field.
    """

    kind: str
    field: str


LINES = InputFormat("lines", "")


class Entry(NamedTuple):
    """What stands in a line, or what is wrong with it."""

    line: int
    text: str
    fault: str = ""


def parse_format(text: str) -> InputFormat:
    """Parse ``lines``, ``csv:COLUMN``, ``tsv:COLUMN`` or ``jsonl:FIELD``."""
    kind, _, field = text.partition(":")
    if text != "lines" and (kind not in {*_DELIMITERS, "jsonl"} or not field):
        raise ValueError(f"{text!r} is not lines, csv:COLUMN, tsv:COLUMN or jsonl:FIELD")
    if kind in _DELIMITERS and field.isdecimal() and int(field) == 0:
        raise ValueError(f"{text!r}: columns are counted from 1")
    return InputFormat(kind, field)


def entries(raw: bytes, form: InputFormat) -> Iterator[Entry]:
    """Give what is not empty.

    Raises
    ------
    InputError
        When a table has no such column.
    """
    raw = raw.removeprefix(_BYTE_ORDER_MARK)
    if form.kind in _DELIMITERS:
        return _cells(raw, _DELIMITERS[form.kind], form.field)
    lines = _decoded(enumerate(raw.splitlines(), 1))
    return _fields(lines, form.field) if form.kind == "jsonl" else _without_comments(lines)


def _decoded(lines: Iterable[tuple[int, bytes]]) -> Iterator[Entry]:
    for line, content in lines:
        try:
            yield Entry(line, content.decode())
        except UnicodeDecodeError as error:
            where = f"byte 0x{content[error.start]:02x} at column {error.start + 1}"
            yield Entry(line, content.decode(errors="backslashreplace"), f"not UTF-8: {where}")


def _without_comments(lines: Iterable[Entry]) -> Iterator[Entry]:
    for entry in lines:
        text = _COMMENT.sub("", entry.text).strip()
        if entry.fault:
            yield entry
        elif text:
            yield Entry(entry.line, text)


def _fields(lines: Iterable[Entry], field: str) -> Iterator[Entry]:
    for entry in lines:
        if entry.fault:
            yield entry
        elif entry.text.strip():
            yield _field(entry, field)


def _field(entry: Entry, field: str) -> Entry:
    try:
        found = json.loads(entry.text)
    except (ValueError, RecursionError) as error:
        return entry._replace(fault=f"no JSON: {error}")
    if not isinstance(found, dict) or field not in found:
        return entry._replace(fault=f"no object with a field {field!r}")
    text = found[field]
    if not isinstance(text, str):
        return entry._replace(fault=f"its {field!r} is no text")
    return Entry(entry.line, text.strip(), "" if text.strip() else f"its {field!r} is empty")


def _cells(raw: bytes, delimiter: str, column: str) -> Iterator[Entry]:
    text = io.StringIO(raw.decode(errors="surrogateescape"), newline="")
    rows = csv.reader(text, _TabSeparated if delimiter == "\t" else csv.excel)
    place = int(column) - 1 if column.isdecimal() else _place(rows, column)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Entry(rows.line_num, "", f"no row of a table: {error}")
            continue
        if row:
            yield _cell(rows.line_num, row, place)


def _place(rows: Iterator[list[str]], column: str) -> int:
    """Find a column by its name in the first row."""
    try:
        head = [name.strip() for name in next(rows, [])]
    except csv.Error:
        head = []
    if column not in head:
        names = ", ".join(map(repr, head)) or "none"
        raise InputError(f"there is no column {column!r} in the first line; there are: {names}")
    return head.index(column)


def _cell(line: int, row: list[str], place: int) -> Entry:
    text = row[place].strip() if place < len(row) else ""
    if not text:
        return Entry(line, ",".join(row), f"column {place + 1} is empty")
    if any("\udc80" <= character <= "\udcff" for character in text):
        shown = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return Entry(line, shown, "not UTF-8")
    return Entry(line, text)
