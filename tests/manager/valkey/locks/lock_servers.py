"""A Valkey server in the place of a manager's, for the tests of remote locks."""

from __future__ import annotations

from typing import Any

import garrison
from valkey_server import ValkeyServer

LEASE_S = 1.0


class LockServer:
    """What the tests of remote locks use of a `ServerProcess`."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server
        self.address = server.url(f"lease={LEASE_S}")

    def connect(self, **_: Any) -> Any:
        return garrison.connect(self.address)
