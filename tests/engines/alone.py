"""Tests of clusters, each in a process and in a network of its own, where there is loopback alone.

Nothing that a cluster listens on can be reached from another machine, none of its messages leaves
this one, and threads that its library never ends go with the process.
"""

from __future__ import annotations

import fcntl
import inspect
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

INSIDE = "GARRISON_TEST_ALONE"
UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]
SECONDS_BEFORE = 5.0
"""Seconds by which the process is ended before the watchdog of the outer test."""
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def alone(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test by a pytest of its own, in a network of its own.

    Marks count in both; fixtures are those of the inner test.
    """
    if os.environ.get(INSIDE):
        return test
    marks = getattr(test, "pytestmark", [])
    named = [mark.args[0] for mark in marks if mark.name == "parametrize"]
    several = [each.split(",") if isinstance(each, str) else each for each in named]
    names = [name.strip() for each in several for name in each]
    seconds = next((mark.args[0] for mark in marks if mark.name == "watchdog"), 30.0)

    def run(request: pytest.FixtureRequest, **_: object) -> None:
        run_alone(request.node.nodeid, str(request.config.rootpath), seconds - SECONDS_BEFORE)

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, kind) for name in ("request", *names)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    run.pytestmark = marks  # type: ignore[attr-defined]
    return run


def run_alone(nodeid: str, root: str, seconds: float) -> None:
    """Run one test; fail with what it has printed."""
    command = [*UNSHARE, sys.executable, __file__, "-q", "-rs", "-p", "no:cacheprovider", nodeid]
    environment = {**os.environ, INSIDE: "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # A folder of its own: with pytest's numbered one it removes those of earlier runs, and where it
    # cannot, as with files of other users, the test would fail.
    with (
        tempfile.TemporaryDirectory(prefix="alone-", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [*command, f"--basetemp={folder}/t"],
            cwd=root,
            env=environment,
            start_new_session=True,
            **pipes,
        ) as process,
    ):
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)  # faulthandler says where it was
            output, _ = process.communicate()
    if "unshare failed" in output:
        pytest.skip("this system lets no user make a network namespace")
    if " skipped" in output and " passed" not in output:
        pytest.skip(output.partition("SKIPPED")[2].strip().partition("\n")[0])
    if process.returncode:
        pytest.fail(output, pytrace=False)


def raise_loopback() -> None:
    """Make 127.0.0.1 usable in a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        name, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _GET_FLAGS, request))
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", name, flags | _UP))


if __name__ == "__main__":
    raise_loopback()
    raise SystemExit(pytest.main(sys.argv[1:]))
