"""The sites to fetch: reading the file, and one canonical key for each.

A line holds a bare host (``www.qq.com``), a URL, a ``#`` comment, or nothing.
Two lines with one key are one site.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from garrison.fetch._input_formats import LINES, InputFormat, entries
from garrison.fetch._masking import mask_line, mask_url

LONGEST_LINE = 8000
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(
    r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?"
)
_LONGEST_HOST = 253
_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL_SAFE = "%/:=&?~#+!$,;'@()*[]"


@dataclass(frozen=True, slots=True)
class Site:
    """One site of the list, and its URL.

    Attributes
    ----------
    text
        The text in the file, without its secrets.
    line
        The number of its first line, from 1.
    schemes
        What to try, in this order: ``("https", "http")`` for a bare host.
    address
        The URL without its scheme: ``www.qq.com/``.
    """

    text: str
    line: int
    schemes: tuple[str, ...]
    address: str

    @property
    def key(self) -> str:
        """What makes two lines the same site."""
        if len(self.schemes) > 1:
            return self.address.removesuffix("/") if self.address.count("/") == 1 else self.address
        return self.url(self.schemes[0])

    @property
    def host(self) -> str:
        """The host, without user and port."""
        host = self.address.partition("/")[0].rpartition("@")[2]
        before, colon, port = host.rpartition(":")
        return before if colon and not port.endswith("]") else host

    def url(self, scheme: str) -> str:
        """Return the URL to ask for over ``scheme``."""
        return f"{scheme}://{self.address}"


class Fault(NamedTuple):
    """A line that is no site.

    Attributes
    ----------
    line
        Its number.
    text
        What stands there, shortened and without its secrets.
    reason
        What is wrong with it.
    """

    line: int
    text: str
    reason: str

    def describe(self, source: str) -> str:
        """Return one line: ``FILE:LINE: what is wrong``."""
        return f"{source}:{self.line}: {self.text!r}: {self.reason}"


class SiteList(NamedTuple):
    """What a file has.

    Attributes
    ----------
    sites
        The sites in the order of their lines, each once.
    repeats
        How many lines repeat one.
    faults
        The lines that are no site.
    """

    sites: list[Site]
    repeats: int
    faults: list[Fault]


def read_sites(file: str, form: InputFormat = LINES) -> SiteList:
    """Read the sites of a file.

    Parameters
    ----------
    file
        A path; ``-`` is standard input.
    form
        What is in it.

    Raises
    ------
    OSError
        When the file cannot be read.
    InputError
        When it has no such column.
    """
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    return parse_sites(raw, form)


def parse_sites(raw: bytes, form: InputFormat = LINES) -> SiteList:
    """Parse the bytes of a file of sites: `read_sites` without the reading."""
    sites: dict[str, Site] = {}
    faults: list[Fault] = []
    repeats = 0
    for line, text, fault in entries(raw, form):
        site = fault or _site_or_fault(text, line)
        if isinstance(site, str):
            faults.append(Fault(line, _shortened(mask_line(text)), site))
            continue
        repeats += site.key in sites
        sites.setdefault(site.key, site)
    return SiteList(list(sites.values()), repeats, faults)


def _site_or_fault(text: str, line: int) -> Site | str:
    try:
        return parse_site(text, line)
    except ValueError as error:
        return str(error)


def parse_site(text: str, line: int = 0) -> Site:
    """Parse one site; raise a `ValueError` with the reason if it is none."""
    if any(character <= " " or character == "\x7f" for character in text):
        raise ValueError("a site has no spaces or control characters in it")
    if len(text) > LONGEST_LINE:
        raise ValueError(f"longer than {LONGEST_LINE} characters")
    match = _SCHEME.match(text)
    if match and match[1].lower() not in _DEFAULT_PORTS:
        raise ValueError("only http and https sites can be fetched")
    parts = urlsplit(text if match else f"https://{text}")
    if not match and "@" in parts.netloc:
        raise ValueError("with a user name, write the whole URL: https://user@host/")
    if not match and parts.netloc.endswith(":"):
        raise ValueError("what stands after the colon is no port (1-65535)")
    schemes = (parts.scheme,) if match else ("https", "http")
    return Site(mask_url(text), line, schemes, _address(parts, bare=not match))


def _address(parts: SplitResult, *, bare: bool) -> str:
    """Give host, port, path and query in one spelling."""
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    port = _port(parts)
    default = None if bare else _DEFAULT_PORTS[parts.scheme]
    shown_port = "" if port in (None, default) else f":{port}"
    path = quote(parts.path or "/", safe=_URL_SAFE)
    query = f"?{quote(parts.query, safe=_URL_SAFE)}" if parts.query else ""
    return f"{user}{_host(parts)}{shown_port}{path}{query}"


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("what stands after the colon is no port (1-65535)")
    return port


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not host:
        raise ValueError("no host in it")
    if ":" in host:
        return f"[{_ipv6(host)}]"
    try:
        ascii_host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"{host!r} is no host name") from error
    if len(ascii_host) > _LONGEST_HOST or not _HOST.fullmatch(ascii_host):
        raise ValueError(f"{_shortened(host)!r} is no host name")
    return ascii_host


def _ipv6(host: str) -> str:
    import ipaddress  # few lists need it, and it is slow to load

    address, _, zone = host.partition("%")
    return f"{ipaddress.IPv6Address(address)}{'%' + zone if zone else ''}"


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004
