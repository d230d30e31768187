"""What the figures were measured on, and whether it had something else to do."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import time
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any


class Meter:
    """Counts the processor time that programs other than ours use from now on."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._others = _all_seconds() - _our_seconds()

    def share_of_others(self) -> float:
        """Their part of the machine, from 0 to 1."""
        used = _all_seconds() - _our_seconds() - self._others
        there = (time.monotonic() - self._start) * (os.cpu_count() or 1)
        return max(0.0, used / there)


def _all_seconds() -> float:
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _our_seconds() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def description(packages: Iterable[str]) -> dict[str, Any]:
    """Processor, system and versions."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": dict(_versions(packages)),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)
