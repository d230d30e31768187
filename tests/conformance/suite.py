"""CPython's test classes for the start method that the environment names.

What the tests send to other processes is found under this module's name.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

_tests: Any = importlib.import_module("test._test_multiprocessing")
_tests.install_tests_in_module_dict(globals(), os.environ["CONFORMANCE_METHOD"])
