"""Hooks of mkdocs: some files of the repository are pages of the site, too.

A link to such a file goes to its page. A link to any other file of the repository becomes its text:
the site has no address of the source.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "internals.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
}
"""Files of the repository, and what their pages are called."""
DECISIONS = "docs/decisions"
_LINK = re.compile(r"\[(?P<text>[^]]*)\]\((?!\w+:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are files of the repository."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=with_links(text, ".")))
    files.append(File.generated(config, "decisions/index.md", content=list_of_decisions()))
    return files


def list_of_decisions() -> str:
    """Return a page with the titles of all decisions."""
    lines = ["# Decisions", "", "Why things are as they are, with what was measured.", ""]
    for path in sorted((ROOT / DECISIONS).glob("*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Set right the links of a page to files outside of the documentation."""
    del config, files
    if page.file.src_uri in PAGES.values():
        return markdown
    return with_links(markdown, posixpath.dirname(posixpath.join("docs", page.file.src_uri)))


def with_links(text: str, folder: str) -> str:
    """Return a page whose links go to pages.

    Parameters
    ----------
    text : str
        The page.
    folder : str
        Where in the repository it lies.

    Raises
    ------
    FileNotFoundError
        If a link goes to nothing.
    """
    shown_in = folder if folder.startswith("docs") else "docs"

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found["path"]))
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"{folder}: a link to {target}, which is not there")
        target = f"docs/{PAGES[target]}" if target in PAGES else target
        target = f"{target}/index.md" if target == DECISIONS else target
        if not target.startswith("docs/"):
            return found["text"]
        shown = posixpath.relpath(target, shown_in)
        return f"[{found['text']}]({shown}{found['anchor'] or ''})"

    return _LINK.sub(link, text)
