"""The options of ``garrison fetch``, and what is wrong with a value when it is."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

from garrison.fetch._input_formats import InputFormat, parse_format

DESCRIPTION = """\
Fetch the page of every site in FILE, with several processes at once.

FILE has one site a line: a bare host (https is tried first, then http) or a URL.
Empty lines and # comments are skipped, and a site that comes twice is fetched once.
A line that is no site is a failure of its own; with --strict nothing is fetched then.
A page appears in the folder only when it is whole. One failed site never stops the
others.
"""

EPILOG = """\
exit status: 0 all fetched, 1 some failed, 2 wrong usage or an unusable file,
130 after Ctrl-C, 143 after SIGTERM: then --resume goes on where it stopped.

A host that answers 429 or 503 is left alone for as long as it asks (Retry-After), then
asked half as much at once. If it asks for more than a minute, its sites fail: --resume
tries them later.

User names, passwords and what looks like a token in an address are shown and reported
as ***; a token among the folders of its path is not recognised. Nobody else may be
able to write to the folder of the pages.

A redirect from a public host to a loopback, link-local or private address is refused,
also where a name stands for the address. Of redirects that a proxy follows only the
text is checked: what names stand for, the proxy has to check.

With --engine the list is spread over the nodes of a cluster, each of which needs garrison[fetch].
Pages and report are written here, as without it. All limits are those of one transfer or of one
process: with N processes, on whatever nodes, there are at most N times K transfers at once, also to
one host. A name stands for the address that the node finds, and proxies are those of the node.

Proxies come from the environment, as for curl: https_proxy, http_proxy, no_proxy.
"""

_END = r"(?:\[[0-9A-Fa-f:.%]+\]|[^:\[\]\s]*)"
_CONNECT_TO = re.compile(rf"{_END}:(\d*):{_END}:(\d*)")
_LAST_PORT = 65535
_SIZE = re.compile(r"(\d+)([kMG]?)")
_FACTORS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}
_MOST_PROCESSES = 1000
_MOST_PER_WORKER = 1000
_LONGEST_TIMEOUT = 86400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to a parser."""
    add = parser.add_argument
    add("file", metavar="FILE", help="the sites, one a line; - is standard input")
    help_ = (
        "what FILE has: lines, csv:COLUMN, tsv:COLUMN (a name in the first line, or a number from "
        "1 where there is no such line) or jsonl:FIELD (%(default)s)"
    )
    add("--input-format", metavar="FORMAT", type=_input_format, default="lines", help=help_)
    help_ = "fetch nothing if a line is no site, and exit with 2"
    add("--strict", action="store_true", help=help_)
    _add_transfers(add)
    add(
        "--report", metavar="FILE", help="write one JSON object a line for each site, as it is done"
    )
    add("--resume", action="store_true", help="keep the pages that are there, fetch the others")


def _add_transfers(add: Callable[..., object]) -> None:
    help_ = "the folder for the pages (%(default)s)"
    add("-o", "--output", metavar="DIR", default="pages", help=help_)
    help_ = "how many processes (3, or as many as the engine has room for)"
    add("-j", "--jobs", metavar="N", type=_jobs, help=help_)
    help_ = "where: ray, dask, an address (tcp://scheduler:8786), threads, serial (this machine)"
    add("--engine", metavar="ENGINE", help=help_)
    help_ = "transfers at once in each process (%(default)s)"
    add("--per-worker", metavar="K", type=_per_worker, default=8, help=help_)
    help_ = "transfers at once from one host, over all processes (no limit)"
    add("--per-host", metavar="N", type=_per_worker, help=help_)
    help_ = "ask each host for its robots.txt first, and fetch nothing that it forbids"
    add("--robots", action="store_true", help=help_)
    help_ = "the longest that one transfer may take (%(default)g)"
    add("--timeout", metavar="SECONDS", type=_seconds, default=30.0, help=help_)
    help_ = "how often to try again after what may pass: a time-out, a refusal, a 503 (%(default)s)"
    add("--retries", metavar="N", type=_retries, default=2, help=help_)
    help_ = "the most bytes of one page; k, M and G are understood (1G)"
    add("--max-bytes", metavar="N", type=_size, default=_FACTORS["G"], help=help_)
    help_ = "the most bytes of a page that comes compressed, once decompressed (64M)"
    add("--max-decompressed", metavar="N", type=_size, default=64 * _FACTORS["M"], help=help_)
    help_ = "the most times its size to which a page beyond 1M may be decompressed (%(default)s)"
    add("--max-ratio", metavar="N", type=_ratio, default=100, help=help_)
    help_ = "follow redirects from public hosts to loopback, link-local and private addresses too"
    add("--allow-private-redirects", action="store_true", help=help_)
    help_ = "connect to HOST2:PORT2 instead of HOST1:PORT1, as in curl; may be repeated"
    add(
        "--connect-to",
        metavar="H1:P1:H2:P2",
        type=_connect_to,
        action="append",
        default=[],
        help=help_,
    )


def _whole(text: str, least: int, most: int, what: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text) or not least <= int(text) <= most:
        message = f"{text!r} is no {what}: give a whole number from {least} to {most}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _input_format(text: str) -> InputFormat:
    try:
        return parse_format(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _jobs(text: str) -> int:
    return _whole(text, 1, _MOST_PROCESSES, "number of processes")


def _per_worker(text: str) -> int:
    return _whole(text, 1, _MOST_PER_WORKER, "number of transfers")


def _retries(text: str) -> int:
    return _whole(text, 0, 100, "number of retries")


def _ratio(text: str) -> int:
    return _whole(text, 1, 1_000_000_000, "ratio")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        message = (
            f"{text!r} is no time-out: give seconds, more than 0 and at most {_LONGEST_TIMEOUT:.0f}"
        )
        raise argparse.ArgumentTypeError(message)
    return seconds


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _FACTORS[match[2]] if match else 0
    if not 0 < size < 1 << 62:
        message = f"{text!r} is no size: give a number of bytes from 1, such as 500000, 500k or 10M"
        raise argparse.ArgumentTypeError(message)
    return size


def _connect_to(text: str) -> str:
    match = _CONNECT_TO.fullmatch(text)
    if not match or any(int(port) > _LAST_PORT for port in match.groups() if port):
        message = f"{text!r} is not HOST1:PORT1:HOST2:PORT2 (each may be empty; IPv6 in brackets)"
        raise argparse.ArgumentTypeError(message)
    return text
