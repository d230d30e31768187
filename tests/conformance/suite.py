"""CPython's test classes for the start method that the environment names.

What the tests send to other processes is found under this module's name.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

if os.environ.get("CONFORMANCE_MODULE", "garrison") == "garrison":
    # The tests choose names of shared memory by replacing a function of the public module.
    _public: Any = importlib.import_module("garrison.shared_memory")
    _private: Any = importlib.import_module("garrison.memory.shared_memory")
    _public._make_filename = _private._make_filename
    _private._make_filename = lambda: _public._make_filename()  # noqa: PLW0108 - looked up late

_tests: Any = importlib.import_module("test._test_multiprocessing")
_tests.install_tests_in_module_dict(globals(), os.environ["CONFORMANCE_METHOD"])
