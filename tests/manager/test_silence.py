"""A server logs nothing when its clients end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, queue, signal, sys
import garrison
from garrison.managers import BaseManager

class Manager(BaseManager):
    pass

Manager.register("Queue", queue.Queue)

def client(items, shared, end):
    items.qsize()
    shared["client"] = end
    if end == "exit":
        sys.exit(1)
    if end == "kill in a call":
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        items.get()
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    garrison.set_start_method(sys.argv[1])
    with Manager() as manager, garrison.Manager() as other:
        remote = Manager(("127.0.0.1", 0), b"some key that is long")
        remote.start()
        for items in (manager.Queue(), remote.Queue()):
            shared = other.dict()
            for end in ("exit", "kill", "kill in a call"):
                process = garrison.Process(target=client, args=(items, shared, end))
                process.start()
                process.join()
        for server in (manager, other, remote):
            os.kill(server._process.pid, signal.SIGINT)
        print(items.qsize(), shared)
        remote.shutdown()
        remote.shutdown()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_end_of_a_client_is_not_logged(tmp_path: Path, method: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM, "ascii")
    done = subprocess.run(
        [sys.executable, script, method], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "0 {'client': 'kill in a call'}\n")
    assert done.stderr == ""


def test_ctrl_c_ends_the_program_and_not_its_server() -> None:
    program = (
        "import garrison, time\n"
        "manager = garrison.Manager(); shared = manager.dict()\n"
        # In pieces: Python sleeps through a signal that came just before.
        "try:\n"
        "    print(manager._process.pid, flush=True)\n"
        "    while True: time.sleep(0.02)\n"
        "except KeyboardInterrupt: shared['ended'] = True; print(shared)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate() == ("{'ended': True}\n", "")
