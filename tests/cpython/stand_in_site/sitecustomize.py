"""In interpreters that CPython's tests start: let garrison stand in there, too, and only there."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

_given = os.environ.pop("GARRISON_STANDS_IN", "")
if _given:
    _stand_in, _module, _part, _evidence = _given.split(os.pathsep)
    importlib.import_module(_stand_in).install(_module, _part, Path(_evidence))
