"""The report: one JSON object a line for each site that is done, written as it is done."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path

from garrison._os import file_trust
from garrison._typing import Any
from garrison.errors import GarrisonError
from garrison.fetch._masking import mask_url
from garrison.fetch._messages import Outcome
from garrison.fetch._site_queue import Page
from garrison.fetch._sites import Site

Record = dict[str, Any]


class ReportError(GarrisonError):
    """The file is no report: a line in it is no line of a report."""


def record_of(page: Page, name: str, file: str) -> Record:
    """Return the report's line for a page, as a dict.

    Parameters
    ----------
    page
        The outcome of a site.
    name, file
        The name of its page, and its path; no name for a line that is no site.
    """
    outcome = page.outcome
    return {
        "site": page.site.text,
        "line": page.site.line,
        "ok": page.fetched,
        "url": outcome.url or None,
        "status": outcome.status or None,
        "type": outcome.type or None,
        "bytes": outcome.size,
        "seconds": round(outcome.seconds, 6),
        "attempts": page.attempts,
        "redirects": outcome.redirects,
        "http": outcome.http or None,
        "page": name or None,
        "file": file if page.fetched else None,
        "reason": outcome.reason or None,
    }


def earlier_page(site: Site, index: int, size: int, record: Record | None) -> Page:
    """Return the page of a site that an earlier run fetched; its record may be lost."""
    record = record or {}
    outcome = Outcome(
        site=index,
        part="",
        url=mask_url(record.get("url") or ""),
        status=record.get("status") or 0,
        type=record.get("type") or "",
        size=size,
        seconds=record.get("seconds") or 0.0,
        http=record.get("http") or "",
        redirects=record.get("redirects") or 0,
        code=0,
        reason="",
        linked=True,
        retry_after=0,
    )
    return Page(site, outcome, record.get("attempts") or 0, from_earlier_run=True)


def read_records(path: str) -> tuple[dict[str, Record], set[str]]:
    """Read an earlier report, to resume its run.

    Parameters
    ----------
    path
        The report; it need not be there.

    Returns
    -------
    tuple
        The records of fetched sites by the name of their page, and the names of the
        pages of failed sites.

    Raises
    ------
    ReportError
        When a line other than a torn last one is no line of a report.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}, set()
    records = [_parsed(path, number, line) for number, line in enumerate(lines[:-1], 1)]
    fetched = {record["page"]: record for record in records if record["ok"]}
    return fetched, {record["page"] for record in records if not record["ok"]}


def _parsed(path: str, number: int, line: bytes) -> Record:
    try:
        record = json.loads(line)
        if isinstance(record["ok"], bool) and isinstance(record["page"], str | None):
            return dict(record)
    except (ValueError, KeyError, TypeError):
        pass
    message = f"{path}:{number}: this is no line of a report; give --report another file"
    raise ReportError(message)


class Report:
    """The report's file. Each batch of lines is one write at its end, so no signal tears a line.

    Parameters
    ----------
    path
        The file; its old contents are replaced in one step. None: no report.
    records
        Its first lines.

    Raises
    ------
    UntrustedFile
        When the file, or a link in its place, belongs to another user.
    """

    def __init__(self, path: str | None, records: list[Record]) -> None:
        self._fd: int | None = None
        if path is None:
            return
        target = _checked_target(path)
        if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)  # a pipe, a device
            self.add(records)
        else:
            self._replace(target, records)

    def _replace(self, path: Path, records: list[Record]) -> None:
        new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(new, how, 0o666)
        try:
            self.add(records)
            new.replace(path)
        except OSError:
            new.unlink()
            self.close()
            raise

    def add(self, records: list[Record]) -> None:
        """Append lines."""
        if self._fd is None or not records:
            return
        text = "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
        rest = memoryview(text.encode(errors="replace"))
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _checked_target(path: str) -> Path:
    """Return the file that a report replaces, where links of this user lead.

    Raises
    ------
    UntrustedFile
        If a link, or what is there, belongs to another user.
    """
    target = Path(path)
    with contextlib.suppress(FileNotFoundError):
        file_trust.check_link(path)
        if target.is_symlink():
            target = target.resolve()
        file_trust.check_owner(os.lstat(target), str(target))
    # Not the target itself: a link that is put there in this moment is replaced, not followed.
    return target.parent.resolve() / target.name
