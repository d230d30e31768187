"""The licences and the SBOM that a wheel carries fit the locked dependencies."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import pytest

import garrison

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "native" / "Cargo.lock"
SBOM = ROOT / "native" / "third-party.cdx.json"
LICENSES = ROOT / "THIRD-PARTY-LICENSES"
REMEDY = "run python scripts/licences.py"


@pytest.fixture(name="sbom")
def _sbom() -> Any:
    return json.loads(SBOM.read_text(encoding="utf-8"))


def test_sbom_and_licences_were_written_from_this_lock_file(sbom: Any) -> None:
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    written = {each["name"]: each["value"] for each in sbom["metadata"]["properties"]}
    assert written["garrison:lock:sha256"] == digest, REMEDY


def test_every_crate_of_the_sbom_is_locked_and_has_its_notice(sbom: Any) -> None:
    crates = re.findall(r'name = "(.*)"\nversion = "(.*)"\nsource', LOCK.read_text("utf-8"))
    named = [
        (each["name"], each["version"])
        for each in sbom["components"]
        if each["purl"].startswith("pkg:cargo/")
    ]
    notices = LICENSES.read_text(encoding="utf-8")
    assert {"snow", "ring", "lmdb-master-sys", "pyo3"} <= {name for name, _ in named}
    assert set(named) <= set(crates), REMEDY
    assert [each for each in named if f"\n{each[0]} {each[1]} (" not in notices] == []


def test_c_libraries_are_named_with_version_and_licence(sbom: Any) -> None:
    libraries = {each["name"]: each for each in sbom["components"]}
    assert re.fullmatch(r"\d+\.\d+\.\d+", libraries["lmdb"]["version"])
    assert libraries["lmdb"]["licenses"] == [{"license": {"id": "OLDAP-2.8"}}]
    assert "boringssl" in libraries
    notices = LICENSES.read_text(encoding="utf-8")
    for text in ("OpenLDAP Public License\n", "Howard Chu", "Apache License", "fiat-crypto"):
        assert text in notices


def test_an_installed_wheel_carries_both() -> None:
    files = importlib.metadata.distribution("garrison").files or []
    names = {each.name: each for each in files if ".dist-info" in each.parts[0]}
    if not any(Path(each.locate()) == Path(garrison.__file__) for each in files):
        pytest.skip("these tests do not run against an installed wheel")
    for path in (LICENSES, SBOM):
        assert names[path.name].read_text(encoding="utf-8") == path.read_text(encoding="utf-8")
