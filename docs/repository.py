"""A hook of mkdocs: files of the repository that pages link to (`../compose.yaml`) come along into the site."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"\]\(\.\./([^)#\s]+)")
"""Of a Markdown link out of docs/: its path in the repository."""


def site_path(path: str) -> str:
    """Where the site has a file of the repository. Markdown becomes a page; all else is read as plain text."""
    inside = PurePosixPath("repository", path)
    return str(inside if inside.suffix == ".md" else inside.with_name(f"{inside.name}.txt"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what any page links to. A path that is not a file stays out, so that the strict build names the link."""
    root = Path(config.docs_dir).parent
    linked = {path for page in files.documentation_pages() for path in LINK.findall(page.content_string)}
    for path in sorted(linked):
        if (root / path).is_file():
            files.append(File.generated(config, site_path(path), content=(root / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points the links to the copies."""
    return LINK.sub(lambda link: f"]({site_path(link[1])}", markdown)
