"""Each test ends the workers that were kept for the next call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("joblib", reason="joblib is not installed")


@pytest.fixture(autouse=True)
def workers_end() -> Iterator[None]:
    from garrison.joblib import shutdown

    yield
    shutdown()
