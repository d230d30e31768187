"""A process with a pool that a scenario kills, interrupts or limits: the Victim.

It runs a function of a scenario's module, says on its standard output when it is ready and which
processes it knows, and its whole tree is marked with the token of the scenario.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable
from types import TracebackType

from waiting import becomes_true

from .harness import command
from .subject import BROKEN, PATIENCE, Hangs, Subject, Wrong, check
from .system import TOKEN, describe, marked

FAILED = "failed:"
"""What a victim says, and then in which way, when its function raises."""


class Victim:
    """A marked process that runs `function` with the subject.

    Parameters
    ----------
    subject
        The module under test.
    function
        A function of a module, called in the process with the subject and `arguments`.
    arguments
        Texts.
    before
        Called in the process before it is executed.
    wrapper
        A command to run the process under, such as ``unshare``.
    """

    def __init__(
        self,
        subject: Subject,
        function: Callable[..., None],
        *arguments: str,
        before: Callable[[], None] | None = None,
        wrapper: Iterable[str] = (),
    ) -> None:
        target = f"{function.__module__}:{function.__name__}"
        words = command(subject.name, subject.method, "--call", target, *arguments)
        self.process = subprocess.Popen(
            [*wrapper, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=before,
            text=True,
        )

    def __enter__(self) -> Victim:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def line(self) -> str:
        """The next line that the process says; an error if it ends instead."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        check(text, f"ended with {self.process.poll()} before it was ready")
        if text.startswith(FAILED):
            kind, words = json.loads(text.removeprefix(FAILED))
            raise BROKEN.get(kind, Wrong)(words)
        return text.strip()

    def ready(self) -> list[int]:
        """Wait until the process says that it is ready, and with which processes."""
        return [int(pid) for pid in self.line().split()]

    def kill(self) -> None:
        """Kill the process, not its tree."""
        self.process.kill()
        self.process.wait()

    def interrupt_group(self) -> None:
        """Send SIGINT to all of its process group, as a terminal does on Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self, seconds: float = PATIENCE) -> int:
        """Wait for the end of the process."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            message = "the process does not end"
            raise Hangs(message) from None

    def ended_by_interrupt(self) -> None:
        """Wait for the end, which must be that of a KeyboardInterrupt."""
        status = self.ended()
        check(status in (-signal.SIGINT, 128 + signal.SIGINT, 1), f"ended with {status}")

    @staticmethod
    def say_ready(pids: Iterable[int] = ()) -> None:
        """In the victim: say that all is ready."""
        Victim.say(" ".join(map(str, pids)))

    @staticmethod
    def say(text: str) -> None:
        """In the victim: say something in one line."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    @staticmethod
    def wait_for_the_end() -> None:
        """In the victim: wait until killed."""
        while True:
            signal.pause()


def nothing_left(seconds: float, besides: Collection[int] = ()) -> None:
    """Check that of all marked processes only this one and `besides` are left after a time."""
    token = os.environ[TOKEN]
    becomes_true(lambda: not set(marked(token)) - set(besides), seconds)
    left = set(marked(token)) - set(besides)
    check(not left, f"{seconds:g} s later: {'; '.join(map(describe, left))}")
