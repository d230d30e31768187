"""CPython's tests that are not put to garrison, each with the reason.

Keys are patterns for ``SUITE.CLASS.test``, where the suite is a start method or a module of tests.
"""

from __future__ import annotations

EXCLUDED: dict[str, str] = {}
