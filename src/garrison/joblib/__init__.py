"""The backend for joblib: ``parallel_config(backend="garrison")``, and so scikit-learn.

joblib finds a backend by a name that was registered in the process. It looks for no entry point of
other packages, so ``import garrison.joblib`` is what registers it. On Windows and macOS the name
stands for joblib's own processes.

Examples
--------
>>> import garrison.joblib
>>> from joblib import Parallel, delayed, parallel_config
>>> with parallel_config(backend="garrison", n_jobs=2):
...     Parallel()(delayed(pow)(n, 2) for n in range(5))
[0, 1, 4, 9, 16]
>>> garrison.joblib.shutdown()  # or the workers wait for the next call
"""

from __future__ import annotations

import importlib.util

from garrison import NATIVE
from garrison._typing import Any

if importlib.util.find_spec("joblib") is None:
    msg = "garrison.joblib needs joblib: pip install 'garrison[joblib]'"
    raise ModuleNotFoundError(msg, name="joblib")
if NATIVE:
    from garrison.joblib import _backend
    from garrison.joblib._backend import register
    from garrison.joblib._workers import shutdown

    GarrisonBackend: type[Any] = _backend.GarrisonBackend
else:
    from garrison.joblib import _elsewhere
    from garrison.joblib._elsewhere import register, shutdown

    GarrisonBackend = _elsewhere.GarrisonBackend

__all__ = ["GarrisonBackend", "register", "shutdown"]

register()
