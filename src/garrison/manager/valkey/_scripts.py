"""The Lua scripts of a store: one for each operation, so that each is one step on the server.

A file in ``scripts/`` has the bodies of several operations, each behind a line ``--- name: mode``.
What they use is in the files of `PRELUDE`, and how they are run in `running.lua`; a script has the
parts of these that it needs, for the server makes their functions anew in each run. The modes are:

- ``writes``: it waits while another client has a transaction open, and can be undone with its own
- ``always``: it changes what no transaction undoes, so it does not wait
- ``reads``: of one container; ``reads all``: and of those in it; ``reads names``: no container

There are two scripts for an operation. The quick one is for a store where no transaction is open,
and for values that are no containers, which it checks; `quick.lua` has what differs in it. After
a mode, ``fully`` says that there is none.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from garrison.manager.valkey._connection import Script

__all__ = ["SCRIPTS", "ScriptPair"]

FOLDER = os.path.join(os.path.dirname(__file__), "scripts")  # noqa: PTH118, PTH120 - without pathlib
PRELUDE = ("base", "undoing", "values", "lifetime")
"""In this order: what a function uses is defined in front of it."""
FILES = ("containers", "mappings", "sequences", "transactions")
HEADING = re.compile(r"^--- (\w+): ([a-z ]+)$", re.MULTILINE)
DEFINED = re.compile(r"^(?:local )?(?:function )?([\w, ]+?)(?: =|\(|$)", re.MULTILINE)
WORD = re.compile(r"\b[A-Za-z_]\w*\b")
COMMENT = re.compile(r"(^|\s)--(?!- \w+: ).*$", re.MULTILINE)


class ScriptPair(NamedTuple):
    """The scripts of one operation."""

    quick: Script
    full: Script
    writes: bool


class _Part(NamedTuple):
    """Some lines of a prelude, what they define, and which words they use."""

    text: str
    defined: frozenset[str]
    words: frozenset[str]


def _read(name: str) -> str:
    with open(os.path.join(FOLDER, f"{name}.lua"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
        return COMMENT.sub("", file.read())


def _parts(text: str) -> list[_Part]:
    parts = []
    for each in re.split(r"\n\s*\n(?=\S)", text):
        lines = [line for line in each.splitlines() if line.strip()]
        heads = [line for line in lines if line.startswith(("local ", "function "))]
        found = [DEFINED.match(line) for line in heads]
        names = [name.strip() for match in found if match for name in match[1].split(",")]
        if lines:
            body = "\n".join(lines)
            parts.append(_Part(body, frozenset(names), frozenset(WORD.findall(body))))
    return parts


def _replaced(parts: list[_Part], others: list[_Part]) -> list[_Part]:
    """Return parts with others in the place of those that define the same name."""
    by_name = {name: part for part in others for name in part.defined}
    found = [by_name.get(min(part.defined), part) for part in parts if part.defined]
    return list(dict.fromkeys(found))


def _with_needed(parts: list[_Part], body: str) -> str:
    """Return a script's text behind the parts that it needs, in their order."""
    wanted = set(WORD.findall(body))
    needed: set[int] = set()
    found = True
    while found:
        found = False
        for place, part in enumerate(parts):
            if place not in needed and part.defined & wanted:
                needed.add(place)
                wanted |= part.words
                found = True
    return "\n".join([*(parts[place].text for place in sorted(needed)), body])


def _load() -> dict[str, ScriptPair]:
    before = [part for file in PRELUDE for part in _parts(_read(file))]
    behind = _parts(_read("running"))
    quickly = _replaced(before, _parts(_read("quick")))
    scripts = {}
    for file in FILES:
        _, *found = HEADING.split(_read(file))
        for name, mode, body in zip(found[::3], found[1::3], found[2::3], strict=True):
            is_full, writes = mode.endswith(" fully"), not mode.startswith("reads")
            operation = _operation(mode.removesuffix(" fully"), body.strip())

            def script(parts: list[_Part], how: str) -> Script:
                text = _with_needed([*parts, operation, *behind], f"return {how}()")  # noqa: B023 - called at once
                # A request that writes has a number: none is carried out twice.
                return Script(name, text, idempotent=True, writes=writes)  # noqa: B023

            full = script(before, "fully")
            how = "quick_write" if writes else "quick_read"
            scripts[name] = ScriptPair(full if is_full else script(quickly, how), full, writes)
    return scripts


def _operation(mode: str, code: str) -> _Part:
    text = f"local WRITES = '{mode}'\nlocal function operation()\n{code}\nend"
    return _Part(text, frozenset(("operation", "WRITES")), frozenset(WORD.findall(code)))


SCRIPTS = _load()
