"""A script as it is sent to the server."""

from __future__ import annotations

import hashlib

__all__ = ["Script"]


class Script:
    """A Lua script, sent once on each connection and then named by its digest.

    Parameters
    ----------
    name : str
        What it does, for error messages.
    source : str
        Its text.
    idempotent : bool
        Whether doing it twice is as doing it once, so that it is repeated after a break.
    writes : bool
        Whether it changes something, for which ``?wait=`` waits.
    """

    __slots__ = ("digest", "idempotent", "name", "source", "writes")

    def __init__(
        self, name: str, source: str, *, idempotent: bool = False, writes: bool = True
    ) -> None:
        self.name, self.source = name, source
        self.idempotent, self.writes = idempotent, writes
        self.digest = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - the server's name for it
