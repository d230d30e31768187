"""Makes the pictures of the documentation: in docs/pictures progress-*, fetch-* and front-page.png.

    python scripts/screenshots.py [NAME ...]

A program runs on a terminal of its own (pyte), a notebook in a kernel of its own (nbclient), and
headless Chromium takes the picture. It needs Chromium (Debian: chromium), the group `pictures` of
pyproject.toml, and garrison[fetch] where this runs. For comparison curl, wget2 and aria2c fetch the
same list, where they are installed.
"""

from __future__ import annotations

import fcntl
import html
import http.server
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path

import nbclient
import nbconvert
import nbformat
import pyte

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
COLOURS = {"default": "#d8dee9", "green": "#8fbf6f", "cyan": "#6fc1d8", "red": "#e06c75"}
COLOURS |= {"brown": "#d7ba7d", "brightblack": "#4c566a"}  # brown is yellow
PAGE = """<meta charset="utf-8"><style>
body {{ margin: 0; padding: 14px 18px; background: #1e2430 }}
pre {{ margin: 0; font: 14px/19px "DejaVu Sans Mono", monospace; color: #d8dee9 }}
</style><pre>{}</pre>"""
LINE_HEIGHT, COLUMN_WIDTH, MARGINS = 19, 8.43, (36, 28)

BARS = """
import time
import garrison

def resize(n):
    time.sleep(0.02)
    return n

def store(n):
    with garrison.Pool(1) as inner:
        return inner.options(progress=f"part {n}").map(resize, range(40))

with garrison.Pool(2) as pool, garrison.pool.ThreadPool(2) as threads:
    pictures = pool.options(progress="pictures").map_async(resize, range(400), chunksize=4)
    parts = threads.options(progress="storing").imap(store, range(9))
    for number, _ in enumerate(parts):
        print(f"part {number} is stored")
    pictures.wait()
"""

CELLS = """
import time
import garrison

def square(n):
    time.sleep(0.01)
    return n * n
# ---
with garrison.Pool(2, progress=True) as pool:
    squares = pool.map(square, range(200))
    for value in pool.options(progress="one by one").imap(square, range(100)):
        if value > 300:
            break
sum(squares)
"""

PAGES = ["index.html", "blog/2024/first-post.html", "images/logo.png", "search?q=pool&page=2"]
LIST = [*PAGES, "busy.html", "gone.html"]
OTHERS = {
    "curl": "xargs curl --parallel --fail --retry 2 --remote-name-all < sites.txt",
    "wget2": "wget2 --tries=2 -i sites.txt",
    "aria2": "aria2c --max-tries=2 --console-log-level=error -i sites.txt",
}


# --- Pictures -------------------------------------------------------------------------------------


def take(page: Path, picture: Path, width: int, height: int) -> None:
    """Let Chromium draw a page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or "google-chrome"
    size = f"--window-size={width},{height}"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-lcd-text",
        size,
    ]
    command = [browser, *flags, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    print(f"{picture.name}: {picture.stat().st_size:,} bytes")


def draw_terminal(screen: pyte.Screen, picture: Path) -> None:
    """Draw what a terminal shows."""
    columns = range(screen.columns)
    rows = [[screen.buffer[row][column] for column in columns] for row in range(screen.lines)]
    while rows and all(cell.data == " " for cell in rows[-1]):
        rows.pop()
    text = "\n".join("".join(map(_span, _runs(row))) for row in rows)
    width = int(screen.columns * COLUMN_WIDTH) + MARGINS[0]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "terminal.html")
        page.write_text(PAGE.format(text), encoding="utf-8")
        take(page, picture, width, len(rows) * LINE_HEIGHT + MARGINS[1])


def _runs(row: list[pyte.screens.Char]) -> Iterator[tuple[tuple[str, bool], str]]:
    for style, cells in groupby(row, key=lambda cell: (cell.fg, cell.bold)):
        yield style, "".join(cell.data for cell in cells)


def _span(run: tuple[tuple[str, bool], str]) -> str:
    (colour, bold), text = run
    weight = "; font-weight: bold" if bold else ""
    colour = COLOURS.get(colour, COLOURS["default"])
    return f'<span style="color: {colour}{weight}">{html.escape(text)}</span>'


def run_on_terminal(
    prompt: str,
    command: list[str],
    folder: Path,
    size: tuple[int, int],
    until: Callable[[pyte.Screen], bool] = lambda _: False,
) -> pyte.Screen:
    """Run a program on a terminal, to its end or until the screen shows what is wanted."""
    columns, lines = size
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    stream.feed(f"\x1b[1m$ {prompt}\x1b[0m\r\n".encode())
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        try:
            while not until(screen):
                stream.feed(os.read(ours, 4096))
        except OSError:  # nobody has the other end any more
            pass
        process.terminate()
    os.close(ours)
    return screen


# --- What is in them ------------------------------------------------------------------------------


def bars(name: str) -> None:
    """Take a picture of several bars, some ended, and of prints above them."""

    def in_the_middle(screen: pyte.Screen) -> bool:
        return any(re.match(r"pictures .* [56]\d%", line) for line in screen.display)

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "store.py").write_text(BARS)
        command = [sys.executable, "store.py"]
        screen = run_on_terminal("python store.py", command, Path(folder), (96, 20), in_the_middle)
    draw_terminal(screen, PICTURES / f"{name}.png")


def notebook(name: str) -> None:
    """Take a picture of a notebook that was run, saved and opened again."""
    cells = [nbformat.v4.new_code_cell(text.strip()) for text in CELLS.split("# ---")]
    made = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(made, timeout=120, kernel_name="python3").execute()
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "saved.ipynb")
        nbformat.write(made, saved)
        text, _ = nbconvert.HTMLExporter().from_filename(saved)
        page = Path(folder, "saved.html")
        page.write_text(text, encoding="utf-8")
        take(page, PICTURES / f"{name}.png", 860, 420)


class _Site(http.server.BaseHTTPRequestHandler):
    """Six pages, of which one is gone and one asks to be left alone for a moment, once."""

    asked = 0

    def do_GET(self) -> None:
        status = 200 if self.path[1:] in PAGES else 404
        headers: dict[str, str] = {}
        if self.path == "/busy.html":
            _Site.asked += 1
            status, headers = (429, {"Retry-After": "1"}) if _Site.asked == 1 else (200, {})
        body = b"x" * 12_345
        self.send_response(status)
        for field, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(field, value)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Log nothing."""


@contextmanager
def site() -> Iterator[str]:
    """Serve the pages; yield the list of them, in which one line is no URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), _Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Site.asked = 0
    try:
        yield "".join(f"http://localhost:8000/{each}\n" for each in LIST) + "htp:/wrong\n"
    finally:
        server.shutdown()
        server.server_close()


def fetching(name: str, shown: str, line: str) -> None:
    """Take a picture of a fetch of the list, and of what there is afterwards."""
    with site() as listed, tempfile.TemporaryDirectory() as folder:
        Path(folder, "sites.txt").write_text(listed)
        command = f'{line}; status=$?; echo; echo "exit status $status"; ls -1 . pages 2>/dev/null'
        screen = run_on_terminal(shown, ["sh", "-c", command], Path(folder), (112, 60))
    draw_terminal(screen, PICTURES / f"fetch-{name}.png")


def front_page(name: str) -> None:
    """Take a picture of the site's first page."""
    page = PICTURES.parent.parent / "target" / "site" / "index.html"
    if not page.exists():
        sys.exit("there is no site yet: make docs")
    take(page, PICTURES / f"{name}.png", 1400, 900)


def main() -> None:
    """Make all pictures, or those that are named."""
    wanted = sys.argv[1:]
    ours = "garrison fetch sites.txt"
    makers: dict[str, Callable[[], None]] = {
        "progress-terminal": lambda: bars("progress-terminal"),
        "progress-notebook": lambda: notebook("progress-notebook"),
        "front-page": lambda: front_page("front-page"),
        "fetch-garrison": lambda: fetching("garrison", ours, f"{sys.executable} -m {ours}"),
    }
    for tool, line in OTHERS.items():
        if shutil.which("aria2c" if tool == "aria2" else tool):
            makers[f"fetch-{tool}"] = partial(fetching, tool, line, line)
    for name, make in makers.items():
        if not wanted or name in wanted:
            make()


if __name__ == "__main__":
    main()
