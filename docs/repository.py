"""A hook of mkdocs: files of the repository that pages link to (`../compose.yaml`) come along into the site."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"\]\(((?:\.\./)+)([^)#\s]+)")
"""Of a Markdown link out of a page's folder: the way up, and the path from there."""
STUDY = "study/docs/"
"""Pages that lie beside the study's code and have a place in the site as study/."""


def site_path(path: str) -> str:
    """Where the site has a file of the repository. Markdown becomes a page; all else is read as plain text."""
    if path.startswith(STUDY):
        return f"study/{path.removeprefix(STUDY)}"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    inside = PurePosixPath("repository", path)
    return str(inside if inside.suffix == ".md" else inside.with_name(f"{inside.name}.txt"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the study's pages, and what any page links to. A path that is not a file stays out, so that the strict build
    names the link."""
    root = Path(config.docs_dir).parent
    for path in sorted((root / STUDY).rglob("*")):
        if path.is_file():
            inside = path.relative_to(root).as_posix()
            files.append(File.generated(config, site_path(inside), content=path.read_bytes()))
    pages = list(files.documentation_pages())
    linked = {path for page in pages for _, path in LINK.findall(page.content_string)}
    for path in sorted(linked):
        if (root / path).is_file() and not path.startswith((STUDY, "docs/")):
            files.append(File.generated(config, site_path(path), content=(root / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points the links to the copies."""
    up = "../" * page.file.src_uri.count("/")
    return LINK.sub(lambda link: f"]({up}{site_path(link[2])}", markdown)
