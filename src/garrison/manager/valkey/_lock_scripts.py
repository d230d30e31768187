"""The operations on locks and sessions as scripts: each is one step on the server."""

from __future__ import annotations

import os

from garrison.manager.valkey._script import Script

__all__ = ["LOCK_SCRIPTS"]

FOLDER = os.path.join(os.path.dirname(__file__), "lock_scripts")  # noqa: PTH118, PTH120 - without pathlib
FILES = ("base", "lock", "condition", "event", "barrier", "operations")
READS = ("value", "is_set", "state", "waiting")
SESSIONS = ("begin", "renew", "end")
REPEATABLE = ("acquire", "try", "wait", "leave", "cancel", "open", "send", "close", "set", "clear")
"""What is done twice as once: a wait by its mark, the rest by itself."""
OTHERS = ("release", "notify", "acted", "reset", "abort")


def _source() -> str:
    parts = []
    for name in FILES:
        with open(os.path.join(FOLDER, f"{name}.lua"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            parts.append(file.read())
    return "".join(parts)


def _scripts() -> dict[str, Script]:
    source = _source()
    made = {
        name: Script(name, source, idempotent=name not in OTHERS) for name in (*REPEATABLE, *OTHERS)
    }
    for name in (*READS, *SESSIONS):
        made[name] = Script(name, source, idempotent=True, writes=False)
    return made


LOCK_SCRIPTS = _scripts()
"""Each operation's script: all have one text, and the operation is their first argument."""
