"""Which main modules a spawned worker imports, and what it has of them then."""

from __future__ import annotations

import pytest

from garrison.supervisor._main_source import Source

GUARDED = [
    "if __name__ == '__main__': main()",
    "if '__main__' != __name__: pass",
    "if __name__ != '__mp_main__': main()",
    "try:\n    if __name__ == '__main__': main()\nexcept Exception: raise",
    "with open('x'):\n    if __name__ == '__main__': main()",
    "is_main = __name__ == '__main__'",
    "__name__ == '__main__' and main()",
    "main() if __name__ == '__main__' else None",
    "if other: pass\nelif __name__ == '__main__': main()",
    "match __name__:\n    case '__main__': main()",
]
UNGUARDED = [
    "",
    "log = logging.getLogger(__name__)",
    "def f():\n    if __name__ == '__main__': pass",
    "class A:\n    main = __name__ == '__main__'",
    "print('__name__ == \"__main__\"')",
]


@pytest.mark.parametrize("source", GUARDED)
def test_a_guard_of_main_is_recognized(source: str) -> None:
    assert Source(source).is_guarded


@pytest.mark.parametrize("source", UNGUARDED)
def test_other_uses_of_name_are_no_guard(source: str) -> None:
    assert not Source(source).is_guarded


SOURCE = """
import os, a.b as c
def f():
    global late
with open(c) as file:
    z = (w := 3)
try:
    q = 1
except OSError as error:
    pass
if __name__ == "__main__":
    def g(): pass
    import json
    y = [k for k in range(3)]
    f = 3
if __name__ == "__mp_main__":
    there = 1
elif 1:
    here = 1
if __name__ in ("__main__", "__mp_main__"):
    both = 1
"""


def test_import_binds_the_names_of_the_source() -> None:
    main = Source(SOURCE)
    for name in ("os", "c", "f", "file", "z", "w", "q", "error", "there", "both"):
        assert main.binds(name), name
    for name in ("a", "late", "g", "json", "y", "here", "unheard_of"):
        assert not main.binds(name), name


def test_names_that_the_source_does_not_show_are_there() -> None:
    main = Source("globals()['f'] = 1\n" + SOURCE)
    assert main.binds("unheard_of")
    assert not main.binds("g")
