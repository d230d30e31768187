"""CPython's test classes, for the start method that the environment names.

Functions that the tests send to workers are found here by their workers.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

_tests: Any = importlib.import_module("test._test_multiprocessing")
_tests.install_tests_in_module_dict(globals(), os.environ["GARRISON_START_METHOD"])
