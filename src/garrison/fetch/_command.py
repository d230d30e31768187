"""``garrison fetch FILE``: from the arguments to the exit status."""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pycurl

from garrison import __version__
from garrison.errors import EngineMismatch, EngineUnavailable, GarrisonError
from garrison.fetch._channel import LaneServer
from garrison.fetch._engine_run import SLICE_SITES, EngineRun
from garrison.fetch._input_formats import InputError
from garrison.fetch._interrupts import Interrupted, Interrupts
from garrison.fetch._lane_tasks import LaneTasks
from garrison.fetch._masking import mask_url
from garrison.fetch._messages import Settings
from garrison.fetch._names import page_name
from garrison.fetch._pages import DirectoryInUse, PageDirectory
from garrison.fetch._progress import (
    NoProgress,
    ProgressView,
    make_progress_view,
    open_standard_streams,
    page_line,
    printable,
    say,
)
from garrison.fetch._report import (
    Record,
    Report,
    ReportError,
    earlier_page,
    read_records,
    record_of,
)
from garrison.fetch._results import Output
from garrison.fetch._robots import LONGEST, Robots, robot_sites
from garrison.fetch._run import Run
from garrison.fetch._site_queue import Page, SiteQueue, failure
from garrison.fetch._sites import Site, SiteList, read_sites
from garrison.fetch._table import print_table
from garrison.pool import Pool

_ALL_FETCHED, _SOME_FAILED, _UNUSABLE, _AFTER_SIGNAL = 0, 1, 2, 128
_MOST_FAULTS_SHOWN = 10
_JOBS = 3
"""Processes of this machine."""


class UnusableError(GarrisonError):
    """Nothing was fetched: the arguments or a file are wrong. The text says what to do."""


def run_fetch(arguments: argparse.Namespace) -> int:
    """Run ``garrison fetch``.

    Parameters
    ----------
    arguments
        The parsed command line (`_options.add_arguments`).

    Returns
    -------
    int
        The exit status.
    """
    open_standard_streams()
    try:
        _check_libcurl(arguments)
        with closing(Interrupts()) as interrupts:
            return _fetch(_listed(arguments), arguments, interrupts)
    except UnusableError as error:
        say(f"garrison fetch: {error}")
        return _UNUSABLE
    except OSError as error:
        say(f"garrison fetch: stopped: {_what(error)}")
        return _SOME_FAILED
    except GarrisonError as error:
        say(f"garrison fetch: stopped: {error}")
        return _SOME_FAILED
    except Interrupted as interrupt:
        say("garrison fetch: interrupted")
        return _AFTER_SIGNAL + interrupt.signum


def _listed(arguments: argparse.Namespace) -> SiteList:
    file, source = arguments.file, _source(arguments)
    try:
        listed = read_sites(file, arguments.input_format)
    except OSError as error:
        raise UnusableError(_what(error, file)) from error
    except InputError as error:
        raise UnusableError(f"{source}: {error}") from error
    if listed.faults:
        faults = _first(fault.describe(source) for fault in listed.faults)
        if arguments.strict:
            raise UnusableError("nothing was fetched, for not every line is a site\n" + faults)
        say(f"garrison fetch: not every line is a site\n{faults}")
    elif not listed.sites:
        raise UnusableError(f"{source}: no site in it; put one a line, such as www.example.com")
    if listed.repeats:
        lines = "1 line repeats" if listed.repeats == 1 else f"{listed.repeats} lines repeat"
        say(f"garrison fetch: {lines} a site; each site is fetched once")
    return listed


def _source(arguments: argparse.Namespace) -> str:
    return "standard input" if arguments.file == "-" else str(arguments.file)


def _first(lines: Iterable[str]) -> str:
    shown = list(lines)
    more = len(shown) - _MOST_FAULTS_SHOWN
    if more > 0:
        shown[_MOST_FAULTS_SHOWN:] = [f"and {more} more lines"]
    return "\n".join(map(printable, shown))


def _fetch(listed: SiteList, arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    started = time.monotonic()
    sites = listed.sites
    names = [page_name(site.key) for site in sites]
    with ExitStack() as stack:
        folder = stack.enter_context(closing(_folder(arguments.output)))
        _refuse_report_among_pages(arguments, names)
        kept = _kept(sites, names, folder, arguments.report) if arguments.resume else []
        done = {page.outcome.site for page in kept}
        todo = {index: site for index, site in enumerate(sites) if index not in done}
        failed, signum = _failed_already(listed, todo, arguments, interrupts)
        names += [""] * len(listed.faults)
        pairs = [(page, names[page.outcome.site]) for page in [*kept, *failed]]
        records = [record_of(page, name, folder.file(name)) for page, name in pairs]
        report = stack.enter_context(closing(_report(arguments.report, records)))
        new: list[Page] = []
        if signum is None:
            view = partial(make_progress_view, len(todo))
            new, signum = _transfer(
                todo, Output(folder, names, report), arguments, interrupts, view
            )
    pages = sorted([*kept, *failed, *new], key=lambda page: page.site.line)
    print_table(pages, [folder.file(names[page.outcome.site]) for page in pages])
    _say_summary(pages, len(names), time.monotonic() - started)
    return _status(pages, signum)


def _failed_already(
    listed: SiteList,
    todo: dict[int, Site],
    arguments: argparse.Namespace,
    interrupts: Interrupts,
) -> tuple[list[Page], int | None]:
    """Return the pages of lines that are no site, and of sites that robots.txt forbids.

    The latter are taken out of `todo`. A signal ends it.
    """
    failed = [
        Page(Site(fault.text, fault.line, ("https",), ""), failure(index, "", fault.reason), 0)
        for index, fault in enumerate(listed.faults, len(listed.sites))
    ]
    if not (arguments.robots and todo):
        return failed, None
    robots, signum = _ask_robots(list(todo.values()), arguments, interrupts)
    if signum is not None:
        return failed, signum
    for index, why in [(index, robots.why_not(site)) for index, site in todo.items()]:
        if why:
            site = todo.pop(index)
            failed.append(Page(site, failure(index, mask_url(site.url(site.schemes[0])), why), 0))
    forbidden = failed[len(listed.faults) :]
    if forbidden:
        say(_first(page_line(page, "") for page in forbidden))
    return failed, None


def _ask_robots(
    sites: list[Site], arguments: argparse.Namespace, interrupts: Interrupts
) -> tuple[Robots, int | None]:
    """Fetch the robots.txt of each host, in a run of its own."""
    wanted, robots = robot_sites(sites), Robots()
    origins = list(wanted)
    names = [f"{number}.txt" for number in range(len(origins))]
    with (
        tempfile.TemporaryDirectory(prefix="garrison-fetch-") as path,
        closing(PageDirectory(path)) as folder,
    ):
        changed = {"output": path, "max_bytes": LONGEST}
        settings = argparse.Namespace(**{**vars(arguments), **changed})
        output = Output(folder, names, Report(None, []))
        todo = dict(enumerate(wanted.values()))
        pages, signum = _transfer(todo, output, settings, interrupts, NoProgress)
        for page in pages:
            file = Path(path, names[page.outcome.site])
            text = file.read_bytes() if page.fetched else b""
            robots.add(origins[page.outcome.site], page.outcome, text)
    return robots, signum


def _transfer(
    todo: dict[int, Site],
    output: Output,
    arguments: argparse.Namespace,
    interrupts: Interrupts,
    make_view: Callable[[], ProgressView],
) -> tuple[list[Page], int | None]:
    """Fetch; return the pages that are done, and the signal that stopped it."""
    if not todo:
        return [], None
    settings = _settings(arguments)
    if arguments.engine is not None:
        return _transfer_over_engine(todo, output, arguments, settings, interrupts, make_view)
    jobs = min(arguments.jobs or _JOBS, len(todo))
    with (
        Pool(jobs, engine="processes") as pool,
        closing(LaneServer()) as server,
        closing(make_view()) as view,
    ):
        lanes = LaneTasks(pool, jobs, server.address, settings)
        run = Run(lanes, server, SiteQueue(todo, settings, jobs), output, view)
        with interrupts.stopping(run.stop):
            run.run()
    pool.join()
    return run.pages, run.stopped_by


def _transfer_over_engine(
    todo: dict[int, Site],
    output: Output,
    arguments: argparse.Namespace,
    settings: Settings,
    interrupts: Interrupts,
    make_view: Callable[[], ProgressView],
) -> tuple[list[Page], int | None]:
    """Fetch on what the engine has: a cluster's nodes, threads, or this thread."""
    sites = replace(settings, per_worker=SLICE_SITES * settings.per_worker)
    jobs = None if arguments.jobs is None else min(arguments.jobs, len(todo))
    with (
        _pool_of_engine(arguments.engine, jobs) as pool,
        closing(make_view()) as view,
    ):
        workers = max(1, pool.statistics().workers)
        run = EngineRun(pool, settings, SiteQueue(todo, sites, workers), output, view)
        with interrupts.stopping(run.stop):
            run.run()
    return run.pages, run.stopped_by


def _pool_of_engine(engine: str, jobs: int | None) -> Pool:
    try:
        return Pool(jobs, engine=engine)
    except (ValueError, TypeError, ImportError, EngineUnavailable, EngineMismatch) as error:
        raise UnusableError(f"--engine {engine}: {error}") from error


def _check_libcurl(arguments: argparse.Namespace) -> None:
    if not (arguments.allow_private_redirects or hasattr(pycurl, "PREREQFUNCTION")):
        raise UnusableError(
            "this pycurl is too old to check where redirects lead: update it to 7.45.7 or newer, "
            "with libcurl 7.80, or give --allow-private-redirects"
        )


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        folder=os.path.abspath(arguments.output),  # noqa: PTH100  # not resolve(): links stay as they are
        run=secrets.token_hex(4),
        agent=f"Mozilla/5.0 (compatible; garrison/{__version__})",
        per_worker=arguments.per_worker,
        per_host=arguments.per_host,
        timeout=arguments.timeout,
        retries=arguments.retries,
        max_bytes=arguments.max_bytes,
        max_decompressed=arguments.max_decompressed,
        max_ratio=arguments.max_ratio,
        allow_private_redirects=arguments.allow_private_redirects,
        connect_to=tuple(arguments.connect_to),
    )


def _folder(path: str) -> PageDirectory:
    try:
        return PageDirectory(path)
    except DirectoryInUse as error:
        raise UnusableError(f"{path}: another garrison fetch is writing there") from error
    except OSError as error:
        raise UnusableError(f"no pages can be saved in {_what(error, path)}") from error


def _refuse_report_among_pages(arguments: argparse.Namespace, names: list[str]) -> None:
    if arguments.report is None:
        return
    folder, name = os.path.split(os.path.realpath(arguments.report))
    if name in names and folder == os.path.realpath(arguments.output):
        raise UnusableError(
            f"--report {arguments.report}: a page will have that name; give it another"
        )


def _report(path: str | None, records: list[Record]) -> Report:
    try:
        return Report(path, records)
    except OSError as error:
        raise UnusableError(f"no report can be written to {path}: {error.strerror}") from error


def _kept(
    sites: list[Site], names: list[str], folder: PageDirectory, report: str | None
) -> list[Page]:
    """Return the pages that need no fetching: those that are there and not reported as failed."""
    records, failed = _earlier(report)
    kept = []
    for index, (site, name) in enumerate(zip(sites, names, strict=True)):
        size = None if name in failed else folder.size(name)
        if size is not None:
            kept.append(earlier_page(site, index, size, records.get(name)))
    if kept:
        say(f"garrison fetch: {len(kept)} of {len(sites)} pages are there already")
    return kept


def _earlier(report: str | None) -> tuple[dict[str, Record], set[str]]:
    try:
        return read_records(report) if report is not None else ({}, set())
    except ReportError as error:
        raise UnusableError(f"--resume: {error}") from error
    except OSError as error:
        raise UnusableError(f"--resume: {_what(error, str(report))}") from error


def _say_summary(pages: list[Page], total: int, seconds: float) -> None:
    fetched = sum(page.fetched and not page.from_earlier_run for page in pages)
    kept = sum(page.from_earlier_run for page in pages)
    failed = len(pages) - fetched - kept
    size = sum(page.outcome.size for page in pages if not page.from_earlier_run)
    parts = [f"{fetched} fetched", f"{failed} failed", *([f"{kept} kept"] if kept else [])]
    say(f"garrison fetch: {', '.join(parts)}; {size:,} bytes in {seconds:.2f} s")
    if len(pages) < total:
        say(f"garrison fetch: {total - len(pages)} sites to go; the same with --resume goes on")


def _status(pages: list[Page], signum: int | None) -> int:
    if signum is not None:
        return _AFTER_SIGNAL + signum
    return _ALL_FETCHED if all(page.fetched for page in pages) else _SOME_FAILED


def _what(error: OSError, path: str = "") -> str:
    """Describe an error of a file: its path, then the system's text."""
    path = str(error.filename or path)
    words = error.strerror or str(error)
    return f"{path}: {words}" if path else words
