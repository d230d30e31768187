"""The Lua scripts of a store: one for each operation, so that each is one step on the server.

A file in ``scripts/`` has the bodies of several operations, each behind a line ``--- name: mode``.
`prelude.lua` stands in front of each body, `postlude.lua` behind it. The modes are:

- ``writes``: it waits while another client has a transaction open, and can be undone with its own
- ``always``: it changes what no transaction undoes, so it does not wait
- ``reads``: of one container; ``reads all``: of any number of them
"""

from __future__ import annotations

import os
import re

from garrison.manager.valkey._connection import Script

__all__ = ["SCRIPTS", "WRITES"]

FOLDER = os.path.join(os.path.dirname(__file__), "scripts")  # noqa: PTH118, PTH120 - without pathlib
FILES = ("containers", "mappings", "sequences", "transactions")
HEADING = re.compile(r"^--- (\w+): ([a-z ]+)$", re.MULTILINE)


def _read(name: str) -> str:
    with open(os.path.join(FOLDER, f"{name}.lua"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
        return _without_comments(file.read())


def _without_comments(text: str) -> str:
    """Return a script without what the server need not parse; its lines keep their numbers."""
    return re.sub(r"^\s*--(?!- ).*$", "", text, flags=re.MULTILINE)


def _load() -> tuple[dict[str, Script], frozenset[str]]:
    prelude, postlude = _read("prelude"), _read("postlude")
    scripts, writes = {}, set()
    for file in FILES:
        _, *parts = HEADING.split(_read(file))
        for name, mode, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            is_read = mode.startswith("reads")
            operation = f"local WRITES = '{mode}'\nlocal function operation(){body}end"
            text = f"{prelude}\n{operation}\n{postlude}"
            # A request of a client has a number, so no script is carried out twice.
            scripts[name] = Script(name, text, idempotent=True, writes=not is_read)
            if not is_read:
                writes.add(name)
    return scripts, frozenset(writes)


SCRIPTS, WRITES = _load()
