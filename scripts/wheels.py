"""Build, check and try what a release consists of: ``make wheels``.

    python scripts/wheels.py                     all of it, into dist/
    python scripts/wheels.py build 3.12          a wheel of one version
    python scripts/wheels.py build --target aarch64-unknown-linux-musl
    python scripts/wheels.py others | check | try

build    native wheels: for each version of CPython one, by maturin and zig, which links against the
         glibc of manylinux2014, or statically against musl
others   the wheel without a core, for systems that are not Linux, and the source distribution
check    auditwheel and twine find nothing, and pip chooses the right wheel on each system
try      each wheel whose Python is at hand is installed into an empty environment, without cargo on
         PATH, and runs scripts/smoke.py; so does what is built from the source distribution

The interpreters for which wheels are built need not be there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from test_pythons import ROOT, VERSIONS, Interpreter, find

DIST = ROOT / "dist"
HERE = f"{os.uname().machine}-unknown-linux-gnu"
POLICIES = {"gnu": "manylinux2014", "musl": "musllinux_1_2"}
"""The oldest systems on which a wheel runs, by the C library of its target."""
OTHER_SYSTEMS = "macosx_10_9_x86_64.macosx_11_0_arm64.win32.win_amd64.win_arm64"
"""Not "any": pip would prefer that to the source distribution on a Linux without a wheel."""
CHOICES = {
    "manylinux2014_x86_64": "manylinux2014_x86_64",
    "macosx_14_0_arm64": "win_amd64",
    "macosx_10_15_x86_64": "win_amd64",
    "win_amd64": "win_amd64",
    "manylinux2014_ppc64le": None,
}
"""What is in the name of the wheel that pip chooses, by platform."""
SOURCES = {"LICENSE", "PKG-INFO", "README.md", "THIRD-PARTY-LICENSES", "pyproject.toml"}
FOLDERS = {"native", "packaging", "src"}
"""The source distribution has these files and folders, and no others."""
BARE_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


def call(*command: str | Path, **variables: str) -> None:
    """Run a command in the clone; it has to succeed."""
    print("$", *command, flush=True)
    subprocess.run(list(map(str, command)), check=True, cwd=ROOT, env={**os.environ, **variables})


def build(versions: Sequence[str] = VERSIONS, target: str = HERE) -> None:
    """Build native wheels."""
    maturin = ["maturin", "build", "--release", "--locked", "--zig", "--target", target]
    policy = POLICIES[target.rpartition("-")[2]]
    call(
        *[sys.executable, "-m", *maturin, "--compatibility", policy, "--out", str(DIST)],
        *["--interpreter", *versions],
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # zig is here
        CARGO_TARGET_DIR=str(ROOT / "target" / "wheels-build"),
        # A fifth of the size. Functions have names in a backtrace still, and no lines.
        CARGO_PROFILE_RELEASE_DEBUG="none",
        CARGO_PROFILE_RELEASE_STRIP="debuginfo",
    )


def build_others() -> None:
    """Build the wheel without a core, and the source distribution."""
    with tempfile.TemporaryDirectory() as folder:
        call(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", folder)
        (wheel,) = Path(folder).glob("*.whl")
        tags = ["tags", "--remove", "--platform-tag", OTHER_SYSTEMS]
        call(sys.executable, "-m", "wheel", *tags, wheel)
        (wheel,) = Path(folder).glob("*.whl")
        DIST.mkdir(exist_ok=True)
        shutil.move(wheel, DIST / wheel.name)
    call(sys.executable, "-m", "maturin", "sdist", "--out", DIST)


# --- Checks ---------------------------------------------------------------------------------------


def check() -> None:
    """Check all that is in dist/."""
    files = sorted(DIST.iterdir())
    call(sys.executable, "-m", "twine", "check", "--strict", *files)
    for wheel in DIST.glob("*linux*.whl"):
        check_policy(wheel)
    for archive in DIST.glob("*.tar.gz"):
        check_sources(archive)
    for platform, expected in CHOICES.items():
        check_choice(platform, expected)


def check_policy(wheel: Path) -> None:
    """Check that a wheel needs no newer system than its name says."""
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    policy = re.search(r'consistent with the following platform tag:\s+"(\w+)"', shown)
    if policy is None or policy[1] not in wheel.name:
        sys.exit(f"{wheel.name} needs another system than its name says:\n{shown}")
    print(f"{wheel.name}: {policy[1]}, {wheel.stat().st_size / 1e6:.1f} MB")


def check_sources(archive: Path) -> None:
    """Check that the source distribution has what it needs, and not more."""
    with tarfile.open(archive) as opened:
        paths = [name.split("/")[1:] for name in opened.getnames()]
    found = {path[0] for path in paths}
    if found != SOURCES | FOLDERS or any("target" in path for path in paths):
        sys.exit(f"{archive.name} has {', '.join(sorted(found))}")


def check_choice(platform: str, expected: str | None) -> None:
    """Check which wheel pip chooses on a platform."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-index"]
        choice = ["--platform", platform, "--python-version", "3.12", "--only-binary", ":all:"]
        where = ["--find-links", str(DIST), "--dest", folder, "garrison"]
        done = subprocess.run([*command, *choice, *where], check=False, capture_output=True)
        chosen = [path.name for path in Path(folder).iterdir()]
    right = expected in chosen[0] if expected and chosen else not (expected or chosen)
    if not right or bool(done.returncode) != (expected is None):
        sys.exit(f"on {platform} pip chooses {chosen}, and not {expected}")
    print(f"{platform}: {chosen[0] if chosen else 'the source distribution'}")


# --- Trying ---------------------------------------------------------------------------------------


def try_all() -> None:
    """Install and run each wheel of this machine's kind whose Python is at hand."""
    if shutil.which("cargo", path=BARE_PATH):
        print(f"cargo is in {BARE_PATH}: that the wheels do without it is not shown here")
    for version in VERSIONS:
        tag = f"cp{version.replace('.', '')}"
        wheels = list(DIST.glob(f"*-{tag}-{tag}-manylinux*_{os.uname().machine}.whl"))
        interpreter = find(version) if wheels else None
        if interpreter is None:
            print(f"CPython {version}: {'not at hand' if wheels else 'no wheel'}, skipped")
        else:
            try_one(interpreter, wheels[0], PATH=BARE_PATH)
    for archive in DIST.glob("*.tar.gz"):
        own = Interpreter(f"{sys.version_info[0]}.{sys.version_info[1]}", (sys.executable,))
        with tempfile.TemporaryDirectory() as folder:
            build = ["wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(archive)]
            target = str(ROOT / "target" / "wheels-build")
            call(sys.executable, "-m", "pip", *build, CARGO_TARGET_DIR=target)
            try_one(own, next(Path(folder).iterdir()))


def try_one(interpreter: Interpreter, wheel: Path, **variables: str) -> None:
    """Install a wheel into an empty environment, and run the smoke test there."""
    with tempfile.TemporaryDirectory(prefix="garrison-") as folder:
        environment = Path(folder) / "venv"
        call(*interpreter.command, "-m", "venv", "--without-pip", environment)
        python = [*interpreter.runner, str(environment / "bin" / "python")]
        # By the pip of this Python: that in another system's tree may have no network.
        site = environment / "lib" / f"python{interpreter.version}" / "site-packages"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site)]
        began = time.monotonic()
        only = ["--python-version", interpreter.version, "--only-binary", ":all:"]
        call(*pip, *only, wheel, **variables)
        print(f"CPython {interpreter.version}: installed in {time.monotonic() - began:.1f} s")
        call(*python, ROOT / "scripts" / "smoke.py", SMOKE_SECONDS="200", **variables)


STEPS: dict[str, Callable[[], None]] = {"others": build_others, "check": check, "try": try_all}


def main() -> None:
    """Run one step, or all of them."""
    parser = argparse.ArgumentParser(description="the files of a release, into dist/")
    parser.add_argument("step", nargs="?", choices=["build", *STEPS])
    parser.add_argument("versions", nargs="*", default=[], metavar="3.N")
    parser.add_argument("--target", default=HERE, help="of Rust (default: %(default)s)")
    options = parser.parse_args()
    if options.step in {"build", None}:
        build(options.versions or VERSIONS, options.target)
    for name, step in STEPS.items():
        if options.step in {name, None}:
            step()


if __name__ == "__main__":
    main()
