"""Many small pages from one server: `garrison fetch` against curl, one by one and in parallel.

A turn is the whole command, from its start to the last page on disk. The ratios are against
`xargs -P 3 -n 1 curl`, which starts a curl for each page.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
from harness import Goal, Metric, Unsupported, Values
from page_server import PAGE_BYTES, serving

PROCESSES = 3
PER_WORKER = 8
FAR_AWAY = 0.02
XARGS = f"xargs -P {PROCESSES} curl"
PARALLEL = "curl --parallel"


def turn(peer: str, quick: bool) -> Values:
    pages = 200 if quick else 2000
    # A process for each page waits 20 ms for each page: a tenth of them tells its rate.
    pages_far_away = pages // 10 if peer == XARGS else pages
    return {"at once": rate(peer, pages, 0), "after 20 ms": rate(peer, pages_far_away, FAR_AWAY)}


def rate(peer: str, pages: int, delay: float) -> float:
    """Pages a second, with every page checked afterwards."""
    with serving(delay) as site, tempfile.TemporaryDirectory() as folder:
        command, text = prepared(peer, site, pages, Path(folder))
        start = time.perf_counter()
        ended = subprocess.run(
            command, cwd=folder, input=text, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        assert ended.returncode == 0, ended.stderr[-1000:]
        sizes = [file.stat().st_size for file in Path(folder, "pages").iterdir()]
        assert sizes == [PAGE_BYTES] * pages, f"{len(sizes)} pages"
    return pages / seconds


def prepared(peer: str, site: str, pages: int, folder: Path) -> tuple[list[str], str]:
    """The command, and what it reads from standard input."""
    if peer != harness.SUBJECT and shutil.which("curl") is None:
        raise Unsupported("there is no curl here")
    (folder / "pages").mkdir()
    urls = "".join(f"{site}/page/{number}\n" for number in range(1, pages + 1))
    if peer == XARGS:
        one = ["curl", "--silent", "--remote-name", "--output-dir", "pages"]
        return ["xargs", "-P", str(PROCESSES), "-n", "1", *one], urls
    if peer == PARALLEL:
        connections = str(PROCESSES * PER_WORKER)
        options = ["--parallel", "--parallel-immediate", "--parallel-max", connections]
        return ["curl", "--silent", *options, f"{site}/page/[1-{pages}]", "-o", "pages/#1"], ""
    options = ["-j", str(PROCESSES), "--per-worker", str(PER_WORKER), "-o", "pages"]
    return [sys.executable, "-m", "garrison", "fetch", "-", *options], urls


if __name__ == "__main__":
    harness.BASELINE = XARGS
    goals = (Goal("times", 5), Goal("best peer"))
    harness.main(
        harness.Benchmark(
            name="fetch_pages",
            claim="2,000 pages of 10 kB from one local server, 3 processes",
            metrics=(
                Metric("at once", "pages/s", "higher", *goals),
                Metric("after 20 ms", "pages/s", "higher", *goals),
            ),
            turn=turn,
            peers=(harness.SUBJECT, XARGS, PARALLEL),
            rounds=3,
            note=f"Ratios to xargs. All but xargs have {PROCESSES * PER_WORKER} connections.",
        )
    )
