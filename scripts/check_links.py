"""Check that each link within a built site goes to a page that is there, and to a place in it.

    python scripts/check_links.py target/site

Links to other sites are not followed: a build must not depend on them.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The links of a page, and the places that links may go to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = {""}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link or a place."""
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.places.add(value or "")
            elif name in ("href", "src") and value:
                self.links.append(value)


@cache
def read(path: Path) -> _Page:
    """Return what is in a page."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken_links(site: Path) -> list[str]:
    """Return a line for each link that goes nowhere."""
    return [
        f"{path.relative_to(site)}: {link}"
        for path in sorted(site.rglob("*.html"))
        # Of the page for what is not found all links begin at the root of a server.
        if path.name != "404.html"
        for link in dict.fromkeys(read(path).links)
        if not leads_somewhere(path, link)
    ]


def leads_somewhere(page: Path, link: str) -> bool:
    """Whether a link of a page goes to a file, and to a place in it if it names one."""
    url = urlsplit(link)
    if url.scheme or url.netloc:
        return True
    target = (page.parent / unquote(url.path)) if url.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return False
    return target.suffix != ".html" or unquote(url.fragment) in read(target).places


def main(site: Path) -> int:
    """Print what is broken; return the exit status."""
    found = broken_links(site)
    for line in found:
        print(f"goes nowhere: {line}", file=sys.stderr)
    pages = len(list(site.rglob("*.html")))
    print(f"{pages} pages, {len(found)} links that go nowhere")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
