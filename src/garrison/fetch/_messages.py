"""The messages between the parent and its lanes, and a lane's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Job(NamedTuple):
    """One transfer to make.

    Attributes
    ----------
    site
        The site's index in the parent's list.
    url
        What to ask for.
    seconds
        The longest that the whole transfer may take.
    connect_seconds
        The longest that its connection, with TLS, may take.
    """

    site: int
    url: str
    seconds: float
    connect_seconds: float


class Outcome(NamedTuple):
    """How one transfer ended.

    Attributes
    ----------
    site
        The site's index in the parent's list.
    part
        The temporary file with the complete page; empty when there is none.
    url
        The last URL asked for, after redirects.
    status, type, size, seconds, http, redirects
        As libcurl reports them; ``status`` is 0 when no server answered.
    code
        libcurl's error number; 0 when the transfer itself went well.
    reason
        Why there is no page, in words; empty when there is one.
    linked
        Whether the connection, with TLS, was established.
    retry_after
        The seconds that the server asks to wait before the next try, or 0.
    """

    site: int
    part: str
    url: str
    status: int
    type: str
    size: int
    seconds: float
    http: str
    redirects: int
    code: int
    reason: str
    linked: bool
    retry_after: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What every transfer of one run has in common."""

    folder: str
    run: str
    agent: str
    per_worker: int = 8
    per_host: int | None = None
    timeout: float = 30.0
    retries: int = 2
    max_bytes: int = 1 << 30
    max_decompressed: int = 64_000_000
    max_ratio: int = 100
    allow_private_redirects: bool = False
    connect_to: tuple[str, ...] = ()
