"""Runs `garrison fetch` as a user does: as a process of its own, in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS_TO_END = 25.0
COMMAND = (sys.executable, "-m", "garrison", "fetch")
_OF_THE_MACHINE = ("_proxy", "_PROXY", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Ended:
    """How a run ended, and what it left."""

    code: int
    out: str
    err: str
    folder: Path

    def pages(self) -> dict[str, bytes]:
        """The pages by name, and whatever else is there."""
        found = (self.folder / "pages").iterdir()
        return {file.name: file.read_bytes() for file in found}

    def rows(self) -> dict[str, dict[str, str]]:
        """The table by site."""
        head, *lines = (line.split("\t") for line in self.out.splitlines())
        return {line[0]: dict(zip(head, line, strict=True)) for line in lines}

    def report(self) -> dict[str, dict[str, Any]]:
        """The report by site; every line has to be whole, and no site there twice."""
        text = (self.folder / "report.jsonl").read_text()
        assert text == "" or text.endswith("\n")
        records = [json.loads(line) for line in text.splitlines()]
        by_site = {record["site"]: record for record in records}
        assert len(by_site) == len(records)
        return by_site


class Runner:
    """Starts runs; each shares the folder with the one before.

    Every run writes its pages to `pages` and its report to `report.jsonl`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        self._started: list[subprocess.Popen[bytes]] = []

    def __call__(
        self,
        sites: str | bytes | Sequence[str],
        *options: str,
        stdin: bool = False,
        report: bool = True,
        env: dict[str, str] | None = None,
    ) -> Ended:
        """Run to the end."""
        return self.finish(self.start(sites, *options, stdin=stdin, report=report, env=env))

    def start(
        self,
        sites: str | bytes | Sequence[str],
        *options: str,
        stdin: bool = False,
        report: bool = True,
        env: dict[str, str] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        terminal: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a run in a process group of its own."""
        if not isinstance(sites, str | bytes):
            sites = "".join(f"{site}\n" for site in sites)
        source = self.folder / "sites.txt"
        source.write_bytes(sites if isinstance(sites, bytes) else sites.encode())
        tail = ("--report", "report.jsonl") if report else ()
        # Files, since a pipe that nobody reads would hold the run up.
        with source.open("rb") as file, self._out.open("wb") as out, self._err.open("wb") as err:
            process = subprocess.Popen(
                (*COMMAND, "-" if stdin else "sites.txt", *options, *tail),
                cwd=self.folder,
                env=_environment() | (env or {}),
                stdin=file if stdin else subprocess.DEVNULL,
                stdout=terminal or stdout or out,
                stderr=terminal or stderr or err,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def finish(self, process: subprocess.Popen[bytes]) -> Ended:
        """Wait for the end of a run."""
        code = process.wait(SECONDS_TO_END)
        return Ended(code, self._out.read_text(), self._err.read_text(), self.folder)

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith(_OF_THE_MACHINE)}
    return kept | {"TERM": "dumb"}
