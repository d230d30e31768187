"""Fuzz a target: by atheris, guided by coverage, or where there is none by mutations alone.

    python -m fuzzing.run plain_values --seconds 600 --work ../target/fuzz/work

New inputs are kept below the folder of ``--work``; what fails is printed, and kept there too.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CORPORA = Path(__file__).parent / "corpora"
PIECES = (b"", b"\x00", b"\xff", b"[", b"]", b'"', b",", b"9" * 30, b"1e400", b"-1", b"null")


def guided(name: str, seconds: int, work: Path) -> None:
    """Hand over to libFuzzer, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["garrison", "json"]):
        from fuzzing.targets import TARGETS
    found = work / name
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-timeout=10", f"-artifact_prefix={work}/"]
    atheris.Setup([sys.argv[0], *options, str(found), str(CORPORA / name)], TARGETS[name])
    atheris.Fuzz()


def by_chance(name: str, seconds: int, seed: int) -> None:
    """Mutate the corpus for so long."""
    from fuzzing.targets import TARGETS

    corpus = [each.read_bytes() for each in sorted((CORPORA / name).iterdir())]
    chance = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        attempt(TARGETS[name], mutated(chance, corpus), seed)
        count += 1
    sys.stdout.write(f"{name}: {count} inputs, seed {seed}\n")


def attempt(target: Callable[[bytes], None], data: bytes, seed: int) -> None:
    try:
        target(data)
    except BaseException:
        sys.stderr.write(f"seed {seed}: {data!r}\n")
        raise


def mutated(chance: random.Random, corpus: list[bytes]) -> bytes:
    """Return an input of the corpus with a few bytes changed, cut, or replaced."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((0, 1, 1, 2, 8)))
        other = chance.choice(corpus)
        begin = chance.randrange(len(other) + 1)
        new = (
            bytes([chance.randrange(256)]),
            chance.choice(PIECES),
            other[begin : begin + chance.randrange(20)],
        )
        data[at:end] = chance.choice(new)
    return bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(each.name for each in CORPORA.iterdir()))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=None, help="of mutations; atheris has its own")
    parser.add_argument("--work", type=Path, default=Path("../target/fuzz/work"))
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") and options.seed is None:
        guided(options.target, options.seconds, options.work)
        return
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    by_chance(options.target, options.seconds, seed)


if __name__ == "__main__":
    main()
