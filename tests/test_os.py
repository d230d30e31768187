"""What the system is asked: processors, memory, families of processes; on fake trees of files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from garrison import _os
from garrison._os import process_watch

GIB = 1 << 30
Tree = Callable[[dict[str, str]], None]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Make a system of these files: names below /proc or /sys/fs/cgroup, and their texts."""
    monkeypatch.setattr(_os, "PROC", tmp_path / "proc")
    monkeypatch.setattr(_os, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)

    def make(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return make


@pytest.fixture
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


V2 = {"proc/self/cgroup": "0::/outer/inner\n", "cgroup/cgroup.controllers": "cpu memory\n"}
V1 = {
    "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n",
}
HYBRID = {"proc/self/cgroup": "4:cpu,cpuacct:/user\n0::/user\n"}
QUOTAS = {
    "no limit": ({**V2, "cgroup/outer/inner/cpu.max": "max 100000\n"}, 8),
    "own quota": ({**V2, "cgroup/outer/inner/cpu.max": "300000 100000\n"}, 3),
    "a part counts as a whole": ({**V2, "cgroup/outer/inner/cpu.max": "150000 100000\n"}, 2),
    "less than one": ({**V2, "cgroup/outer/inner/cpu.max": "10000 100000\n"}, 1),
    "more than there are": ({**V2, "cgroup/outer/inner/cpu.max": "9900000 100000\n"}, 8),
    "an ancestor's quota": (
        {
            **V2,
            "cgroup/outer/inner/cpu.max": "max 100000\n",
            "cgroup/outer/cpu.max": "200000 100000\n",
        },
        2,
    ),
    "the tightest of all": (
        {
            **V2,
            "cgroup/outer/inner/cpu.max": "500000 100000\n",
            "cgroup/outer/cpu.max": "400000 100000\n",
        },
        4,
    ),
    "nonsense in the file": ({**V2, "cgroup/outer/inner/cpu.max": "a lot\n"}, 8),
    "a period of zero": ({**V2, "cgroup/outer/inner/cpu.max": "100000 0\n"}, 8),
    "v1": (
        {
            **V1,
            "cgroup/cpu/docker/abc/cpu.cfs_quota_us": "250000\n",
            "cgroup/cpu/docker/abc/cpu.cfs_period_us": "50000\n",
        },
        5,
    ),
    "v1, seen from inside of a container": (
        {
            **V1,
            "cgroup/cpu/cpu.cfs_quota_us": "200000\n",
            "cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        2,
    ),
    "v1, no limit": (
        {
            **V1,
            "cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
            "cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
        },
        8,
    ),
    "v1 beside v2": (
        {
            **HYBRID,
            "cgroup/cpu/user/cpu.cfs_quota_us": "600000\n",
            "cgroup/cpu/user/cpu.cfs_period_us": "100000\n",
            "cgroup/unified/user/cgroup.procs": "1\n",
        },
        6,
    ),
    "no control groups": ({"proc/self/cgroup": ""}, 8),
    "no /proc": ({}, 8),
}


@pytest.mark.usefixtures("eight_processors")
@pytest.mark.parametrize("case", QUOTAS)
def test_processors_within_the_quota(tree: Tree, case: str) -> None:
    files, expected = QUOTAS[case]
    tree(files)
    assert _os.usable_cpus() == expected


def test_processors_within_the_affinity(tree: Tree) -> None:
    tree({})
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert _os.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert _os.usable_cpus() == len(before)


@pytest.mark.usefixtures("eight_processors")
@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("64", 64), ("default", 8), ("0", 8), ("-2", 8), ("", 8)]
)
def test_python_cpu_count_has_the_last_word(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, text: str, expected: int
) -> None:
    tree({})
    monkeypatch.setenv("PYTHON_CPU_COUNT", text)
    assert _os.usable_cpus() == expected


MEMINFO = {"proc/meminfo": f"MemTotal: 999 kB\nMemAvailable: {8 * GIB // 1024} kB\n"}
ROOMS = {
    "the machine": ({**MEMINFO, **V2}, 8 * GIB),
    "no limit": (
        {
            **MEMINFO,
            **V2,
            "cgroup/outer/inner/memory.max": "max\n",
            "cgroup/outer/inner/memory.current": f"{GIB}\n",
        },
        8 * GIB,
    ),
    "what the group has left": (
        {
            **MEMINFO,
            **V2,
            "cgroup/outer/inner/memory.max": f"{3 * GIB}\n",
            "cgroup/outer/inner/memory.current": f"{GIB}\n",
        },
        2 * GIB,
    ),
    "what an ancestor has left": (
        {
            **MEMINFO,
            **V2,
            "cgroup/outer/memory.max": f"{2 * GIB}\n",
            "cgroup/outer/memory.current": f"{GIB}\n",
        },
        GIB,
    ),
    "nothing left": (
        {
            **MEMINFO,
            **V2,
            "cgroup/outer/inner/memory.max": f"{GIB}\n",
            "cgroup/outer/inner/memory.current": f"{2 * GIB}\n",
        },
        0,
    ),
    "v1": (
        {
            **MEMINFO,
            **V1,
            "cgroup/memory/docker/abc/memory.limit_in_bytes": f"{4 * GIB}\n",
            "cgroup/memory/docker/abc/memory.usage_in_bytes": f"{GIB}\n",
        },
        3 * GIB,
    ),
    "soft limit": (
        {
            **MEMINFO,
            **V2,
            "cgroup/outer/memory.high": f"{2 * GIB}\n",
            "cgroup/outer/inner/memory.max": f"{4 * GIB}\n",
            "cgroup/outer/memory.current": f"{GIB}\n",
            "cgroup/outer/inner/memory.current": f"{GIB}\n",
        },
        GIB,
    ),
    "files in the cache": (
        {
            **MEMINFO,
            **V2,
            "cgroup/outer/inner/memory.max": f"{3 * GIB}\n",
            "cgroup/outer/inner/memory.current": f"{2 * GIB}\n",
            "cgroup/outer/inner/memory.stat": f"inactive_file {GIB // 4}\nactive_file {GIB}\n",
        },
        GIB + GIB // 4 + GIB // 2,
    ),
    "files in the cache, v1": (
        {
            **MEMINFO,
            **V1,
            "cgroup/memory/docker/memory.limit_in_bytes": f"{3 * GIB}\n",
            "cgroup/memory/docker/memory.usage_in_bytes": f"{2 * GIB}\n",
            "cgroup/memory/docker/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}\n",
        },
        2 * GIB,
    ),
    "swap of the machine": ({"proc/meminfo": "MemAvailable: 3 kB\nSwapFree: 2 kB\n"}, 5 * 1024),
    "swap of the group": (
        {
            "proc/meminfo": f"MemAvailable: {8 * GIB // 1024} kB\nSwapFree: {GIB // 1024} kB\n",
            **V2,
            "cgroup/outer/memory.max": f"{2 * GIB}\n",
            "cgroup/outer/memory.current": f"{2 * GIB}\n",
            "cgroup/outer/memory.swap.max": f"{GIB // 2}\n",
            "cgroup/outer/memory.swap.current": f"{GIB // 4}\n",
        },
        GIB // 4,
    ),
    "no swap for the group, v1": (
        {
            "proc/meminfo": f"MemAvailable: {8 * GIB // 1024} kB\nSwapFree: {GIB // 1024} kB\n",
            **V1,
            "cgroup/memory/docker/memory.limit_in_bytes": f"{2 * GIB}\n",
            "cgroup/memory/docker/memory.usage_in_bytes": f"{GIB}\n",
            "cgroup/memory/docker/memory.memsw.limit_in_bytes": f"{2 * GIB}\n",
            "cgroup/memory/docker/memory.memsw.usage_in_bytes": f"{GIB}\n",
        },
        GIB,
    ),
    "no limit, v1": (
        {
            **MEMINFO,
            **V1,
            "cgroup/memory/docker/memory.limit_in_bytes": "9223372036854771712\n",
            "cgroup/memory/docker/memory.usage_in_bytes": f"{GIB}\n",
        },
        8 * GIB,
    ),
    "nonsense": (
        {
            **MEMINFO,
            **V2,
            "cgroup/outer/memory.max": "a lot\n",
            "cgroup/outer/inner/memory.max": "5\n",
            "cgroup/outer/inner/memory.current": "\n",
        },
        8 * GIB,
    ),
    "unknown": ({}, sys.maxsize),
}


@pytest.mark.parametrize("case", ROOMS)
def test_available_memory_respects_control_groups(tree: Tree, case: str) -> None:
    files, expected = ROOMS[case]
    tree(files)
    assert _os.available_memory() == expected


def test_kills_for_want_of_memory_are_counted(tree: Tree) -> None:
    tree({**V2, "cgroup/outer/inner/memory.events": "oom 9\noom_kill 4\noom_group_kill 7\n"})
    assert _os.oom_kills() == 4
    tree({"proc/vmstat": "pgpgin 5\noom_kill 30\nnuma_hit 2\n"})
    assert _os.oom_kills() == 30


@pytest.mark.parametrize("memory", [GIB // 2, 3 * GIB, 64 * GIB, 6144 * GIB])
def test_heap_is_two_to_four_times_the_memory(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr(_os, "total_memory", lambda: memory)
    assert 2 * memory <= _os.region_size() <= max(4 * memory, 1 << 31)


def stat(pid: int, parent: int, state: str = "S", name: str = "x") -> str:
    between = " ".join(["0"] * 15)
    return f"{pid} ({name}) {state} {parent} 7 8 {between} 1234 0\n"


def test_a_process_name_cannot_confuse(tree: Tree) -> None:
    tree({"proc/12/stat": stat(12, 5, "R", "a) S 1 (b) Z 34"), "proc/self/stat": "?"})
    seen = _os.process_status(12)
    assert seen is not None
    assert (seen.state, seen.parent, seen.group, seen.session, seen.started) == ("R", 5, 7, 8, 1234)
    assert _os.process_status(13) is None
    assert (_os.parent_of(12), _os.start_ticks(12)) == (5, 1234)
    assert (_os.parent_of(13), _os.start_ticks(13)) == (0, 0)


def test_children_are_found_with_and_without_the_kernels_list(tree: Tree) -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 4}
    tree({f"proc/{pid}/stat": stat(pid, parent) for pid, parent in parents.items()})
    assert sorted(_os.children(1)) == [2, 5]
    tree({"proc/1/task/1/children": "2 5 9 "})
    assert _os.children(1) == [2, 5, 9]


def test_a_handler_is_seen_from_outside(tree: Tree) -> None:
    mask = 1 << signal.SIGTERM - 1
    tree({"proc/3/status": f"Name:\tx\nSigIgn:\t0\nSigCgt:\t{mask:016x}\n"})
    assert _os.has_handler(3, signal.SIGTERM)
    assert not _os.has_handler(3, signal.SIGHUP)
    assert not _os.has_handler(4, signal.SIGTERM)


def test_signal_to_a_dead_process_is_no_error() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert not _os.kill_if_alive(process.pid, signal.SIGKILL)
    assert process_watch.wait_for_exit(process.pid, 10)


def test_waiting_for_the_end_of_a_process() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert not process_watch.wait_for_exit(process.pid, 0)
        assert _os.kill_if_alive(process.pid, signal.SIGKILL)
        assert process_watch.wait_for_exit(process.pid, 10)
