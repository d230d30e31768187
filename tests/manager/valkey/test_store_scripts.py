"""The scripts as texts: each has what it uses, in front of where it does."""

from __future__ import annotations

import re

import pytest

from garrison.manager.valkey._scripts import SCRIPTS
from garrison.store._backend import RemoteStoreBackend
from valkey_server import ValkeyServer

NAMES = re.compile(r"^(?:local )?(?:function )?([a-zA-Z_, ]+?)(?: =|\(|$)", re.MULTILINE)
SOURCES = sorted({(n, s.source) for n, pair in SCRIPTS.items() for s in (pair.quick, pair.full)})


@pytest.mark.parametrize(("name", "source"), SOURCES, ids=[name for name, _ in SOURCES])
def test_function_is_defined_in_front_of_its_use(name: str, source: str) -> None:
    defined = set(re.findall(r"^(?:local )?function (\w+)", source, re.MULTILINE))
    known: set[str] = set()
    for line in source.splitlines():
        called = set(re.findall(r"(?<![.:\w])([a-z_]\w*)\(", re.sub(r"'[^']*'", "''", line)))
        if line.startswith(("local ", "function ")):
            found = NAMES.match(line)
            assert found, line
            known |= {each.strip() for each in found[1].split(",")}
        assert not (called & defined) - known, (name, line)


def test_server_compiles_every_script(server: ValkeyServer) -> None:
    for _, source in SOURCES:
        assert len(server.command("SCRIPT", "LOAD", source)) == 40


def test_backend_has_every_operation_of_the_contract() -> None:
    from garrison.manager.valkey._backend import ValkeyBackend

    wanted = {name for kind in RemoteStoreBackend.__mro__ for name in vars(kind) if name[0] != "_"}
    assert {name for name in wanted - {"uuid"} if not hasattr(ValkeyBackend, name)} == set()
