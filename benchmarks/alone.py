"""Run a benchmark in a network of its own: what it starts listens on loopback alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_INSIDE = "GARRISON_BENCHMARK_ALONE"
_UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]
_RAISE = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def enter() -> None:
    """Run this program again in a network of its own, if the system allows it."""
    if os.environ.get(_INSIDE) or shutil.which("unshare") is None:
        return
    if subprocess.run([*_UNSHARE, *_RAISE, "true"], capture_output=True, check=False).returncode:
        print("(not in a network of its own: this system lets no user make one)", flush=True)
        return
    os.environ[_INSIDE] = "1"
    sys.stdout.flush()
    os.execvp("unshare", [*_UNSHARE, *_RAISE, sys.executable, *sys.argv])  # noqa: S606, S607 - found above
