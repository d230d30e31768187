"""A server of sites and a runner of `garrison fetch`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from .runner import Runner
from .site_server import SiteServer


@pytest.fixture
def server() -> Iterator[SiteServer]:
    with closing(SiteServer()) as site_server:
        yield site_server


@pytest.fixture
def fetch(tmp_path: Path, server: SiteServer) -> Iterator[Runner]:
    with closing(Runner(tmp_path)) as runner:
        yield runner
