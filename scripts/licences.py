"""Write THIRD-PARTY-LICENSES and native/third-party.cdx.json: what a wheel's core is linked with.

The crates are those of native/Cargo.lock that the features of pyproject.toml link in, on the
processors below; their licences are read from their sources, as cargo has unpacked them. maturin's
own SBOM would name crates of tests and build scripts, and no C library inside of a crate.

    python scripts/licences.py            after a change of native/Cargo.lock
    python scripts/licences.py --check    fail if the files are not up to date
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "native" / "Cargo.lock"
LICENSES = ROOT / "THIRD-PARTY-LICENSES"
SBOM = ROOT / "native" / "third-party.cdx.json"
PROCESSORS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
OURS = "garrison-core"
RULE = "=" * 100

CHOSEN = {
    "lmdb-master-sys": ("lmdb/libraries/liblmdb/COPYRIGHT", "lmdb/libraries/liblmdb/LICENSE"),
    "ring": (
        "LICENSE",
        "LICENSE-other-bits",
        "LICENSE-BoringSSL",
        "src/polyfill/once_cell/LICENSE-MIT",
        "third_party/fiat/LICENSE",
    ),
}
"""Licence files of crates that hold more than their own code."""

INTRODUCTION = """\
garrison's native core is linked with the works below. Where a work may be used under one of
several licences, it is used under the MIT licence. Written by scripts/licences.py from
native/Cargo.lock.
"""

RUST = """\
The Rust standard library, of the compiler that built this wheel: MIT OR Apache-2.0
    Copyrights in the Rust project are retained by their contributors; see https://rust-lang.org.
"""


@dataclass(frozen=True)
class Crate:
    """A crate that is linked in."""

    name: str
    version: str
    license: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


# --- The crates ----------------------------------------------------------------------------------


def linked_crates() -> list[Crate]:
    """Return the crates whose code is in the core, by name."""
    found = {}
    for processor in PROCESSORS:
        graph = metadata(processor)
        linked = reachable(graph)
        for each in graph["packages"]:
            if each["id"] in linked and each["name"] != OURS:
                folder = Path(each["manifest_path"]).parent
                crate = Crate(each["name"], each["version"], each["license"], folder)
                found[str(crate)] = crate
    return [found[name] for name in sorted(found)]


def metadata(processor: str) -> Any:
    """Return cargo's word on the dependency graph."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform"]
    command += [processor, "--features=extension-module", "--manifest-path=native/Cargo.toml"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def reachable(graph: Any) -> set[str]:
    """Return the ids of what is linked: no build scripts' crates, no macros."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    macros = {
        each["id"]
        for each in graph["packages"]
        if any("proc-macro" in target["kind"] for target in each["targets"])
    }
    found: set[str] = set()
    waiting = [graph["resolve"]["root"]]
    while waiting:
        crate = waiting.pop()
        if crate in found or crate in macros:
            continue
        found.add(crate)
        for each in nodes[crate]["deps"]:
            is_linked = any(kind["kind"] is None for kind in each["dep_kinds"])
            waiting += [each["pkg"]] if is_linked else []
    return found


# --- The licences --------------------------------------------------------------------------------


def license_files(crate: Crate) -> list[Path]:
    """Return the files with the licence of a crate; the MIT one alone where there is a choice."""
    if crate.name in CHOSEN:
        return [crate.folder / name for name in CHOSEN[crate.name]]
    files = sorted(each for each in crate.folder.iterdir() if "LICENSE" in each.name.upper())
    chosen = [each for each in files if "MIT" in each.name.upper()]
    if "MIT" in crate.license and chosen:
        return chosen
    if not files:
        raise SystemExit(f"{crate} has no licence file: name one in {__file__}")
    return files


def licenses(crates: list[Crate]) -> str:
    """Return the text of THIRD-PARTY-LICENSES: a list, then each text once."""
    texts: dict[str, list[str]] = {}
    for crate in crates:
        for path in license_files(crate):
            text = path.read_text(encoding="utf-8").replace("\r\n", "\n").strip("\n")
            within = path.relative_to(crate.folder)
            texts.setdefault(text, []).append(f"{crate} ({within})")
    if any(crate.license == "Apache-2.0" for crate in crates):
        texts.setdefault(apache(crates), []).append("lmdb-master-sys (the Rust part)")
    parts = [INTRODUCTION, "\n".join(f"{crate}: {crate.license}" for crate in crates)]
    parts += [f"LMDB {lmdb_version(crates)}, in lmdb-master-sys: OLDAP-2.8", RUST]
    for text, users in texts.items():
        parts.append(f"{RULE}\n{chr(10).join(users)}\n{RULE}\n\n{text}\n")
    return "\n".join(line.rstrip() for line in "\n".join(parts).splitlines()) + "\n"


def apache(crates: list[Crate]) -> str:
    """Return the Apache licence, which one crate names and does not have."""
    folder = next(crate.folder for crate in crates if crate.name == "pyo3")
    return (folder / "LICENSE-APACHE").read_text(encoding="utf-8").strip("\n")


# --- The SBOM ------------------------------------------------------------------------------------


def lmdb_version(crates: list[Crate]) -> str:
    """Return the version in LMDB's own header."""
    folder = next(crate.folder for crate in crates if crate.name == "lmdb-master-sys")
    header = (folder / "lmdb" / "libraries" / "liblmdb" / "lmdb.h").read_text(encoding="utf-8")
    numbers = [
        re.search(rf"#define MDB_VERSION_{part}\s+(\d+)", header)
        for part in ("MAJOR", "MINOR", "PATCH")
    ]
    return ".".join(number[1] for number in numbers if number)


def sbom(crates: list[Crate]) -> str:
    """Return a CycloneDX document of the crates and of the C libraries inside of them."""
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "library", "name": "garrison", "purl": "pkg:pypi/garrison"},
            "properties": [{"name": "garrison:lock:sha256", "value": lock_digest()}],
        },
        "components": [component(crate) for crate in crates] + bundled(crates),
    }
    return json.dumps(document, indent=2) + "\n"


def component(crate: Crate) -> dict[str, Any]:
    """Return what the SBOM says of a crate."""
    purl = f"pkg:cargo/{crate.name}@{crate.version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": crate.name,
        "version": crate.version,
        "licenses": [{"expression": crate.license.replace("/", " OR ")}],
        "purl": purl,
    }


def bundled(crates: list[Crate]) -> list[dict[str, Any]]:
    """Return what it says of C code whose sources are in a crate."""
    lmdb = {
        "version": lmdb_version(crates),
        "description": "The C library, from its development branch (mdb.master)",
        "licenses": [{"license": {"id": "OLDAP-2.8"}}],
        "externalReferences": [
            {"type": "vcs", "url": "https://git.openldap.org/openldap/openldap"}
        ],
    }
    boringssl = {
        "description": "C and assembly, with parts of fiat-crypto",
        "licenses": [{"expression": "Apache-2.0 AND ISC AND MIT"}],
    }
    return [
        c_library("lmdb", lmdb, "lmdb-master-sys", crates),
        c_library("boringssl", boringssl, "ring", crates),
    ]


def c_library(
    name: str, about: dict[str, Any], carrier: str, crates: list[Crate]
) -> dict[str, Any]:
    """Return a component for a C library, with the crate in which it lies."""
    purl = f"pkg:generic/{name}" + (f"@{about['version']}" if "version" in about else "")
    crate = next(component(crate)["purl"] for crate in crates if crate.name == carrier)
    names = {"type": "library", "bom-ref": purl, "name": name, "purl": purl}
    return names | about | {"properties": [{"name": "garrison:crate", "value": crate}]}


def lock_digest() -> str:
    """Return what tells one state of the locked dependencies from another."""
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if out of date")
    check = parser.parse_args().check
    crates = linked_crates()
    for path, text in ((LICENSES, licenses(crates)), (SBOM, sbom(crates))):
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            sys.exit(f"{path.name} is out of date: run python scripts/licences.py")
        if not check:
            path.write_text(text, encoding="utf-8")
    print(f"{len(crates)} crates, {PROCESSORS}")


if __name__ == "__main__":
    main()
