"""Limits on the threads that numerical libraries start inside of a worker.

A pool of as many workers as processors, each with as many threads of OpenMP or BLAS, runs the
square of what the machine has. Libraries that are loaded later read the environment; those that a
worker has already (of the program it was forked from) are told by their own functions, and by
threadpoolctl if it is installed. This module imports nothing of that: it comes before them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping

from garrison._typing import Any

__all__ = ["limit_inner_threads"]

_SETTERS = {
    "numba": "NUMBA_NUM_THREADS",
    "numexpr": "NUMEXPR_NUM_THREADS",
    "torch": "OMP_NUM_THREADS",
}
"""Libraries with a ``set_num_threads``, and the variable that has their number."""
_KINDS = {"openmp": "OMP_NUM_THREADS", "blas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS"}
"""What threadpoolctl distinguishes, and the variable that has its number."""


def limit_inner_threads(variables: Mapping[str, str]) -> None:
    """Set environment variables of this process, and limit what is loaded already accordingly.

    Parameters
    ----------
    variables : mapping of str to str
        ``OMP_NUM_THREADS``, ``OPENBLAS_NUM_THREADS``, ``MKL_NUM_THREADS``, ``NUMBA_NUM_THREADS``
        and ``NUMEXPR_NUM_THREADS`` are known to loaded libraries; others are set only.

    Examples
    --------
    >>> from garrison import Pool
    >>> from garrison.pool.inner_threads import limit_inner_threads
    >>> import os
    >>> with Pool(2, limit_inner_threads, ({"OMP_NUM_THREADS": "1"},)) as pool:
    ...     pool.apply(os.getenv, ("OMP_NUM_THREADS",))
    '1'
    """
    os.environ.update(variables)
    for name, variable in _SETTERS.items():
        if name in sys.modules and variable in variables:
            # A number that a library refuses (numba: more than at its start) changes nothing.
            with contextlib.suppress(Exception):
                sys.modules[name].set_num_threads(int(variables[variable]))
    if "numpy" in sys.modules or "torch" in sys.modules:
        _limit_loaded(variables)


def _limit_loaded(variables: Mapping[str, str]) -> None:
    limits = {
        kind: int(variables[variable])
        for kind, variable in _KINDS.items()
        if variables.get(variable, "").isdigit()
    }
    try:
        import threadpoolctl
    except ImportError:
        return
    controls: Any = threadpoolctl.threadpool_limits(limits)
    # Its destructor would not restore them, but keeps every library open.
    del controls
