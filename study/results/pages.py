"""Tables inside a Markdown page: text between `<!-- table: NAME -->` and `<!-- end -->` is written anew.

All other text is left alone. `<!-- table: STUDY NAME -->` takes a table of another study."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from semore.datasets.errors import SemoreError
from study.results.files import Results
from study.results.summary import claim, cost, scores
from study.results.tables import TABLES, table

PLACE: Final = re.compile(r"<!-- table: (?:([\w.-]+) )?([\w.-]+) -->\n.*?<!-- end -->", re.DOTALL)
WRITERS: Final[Mapping[str, Callable[[Results], str]]] = {
    "claim": claim, "scores": scores, **{name: partial(table, name=name) for name in TABLES}, "cost": cost,
}  # fmt: skip
"""Every table, in the order of a page that is begun."""
SECTIONS: Final = {
    "claim": "Does the claim hold?", "scores": "Over all scenarios",
    "main": "Methods", "ablations": "Ablations", "masks": "What the masks are worth", "safety": "The safety reward",
    "sensitivity": "Sensitivity", "cost": "Cost",
}  # fmt: skip


def fill(page: str, results: Callable[[str], Results], where: str = "the page") -> str:
    """The page with its tables from the `results` of each study it names. SemoreError for an unknown table, or a place
    that no `<!-- end -->` closes."""
    if page.count("<!-- table: ") != len(PLACE.findall(page)):
        raise SemoreError(f"{where}: a `<!-- table: NAME -->` has no `<!-- end -->` before the next one, or no name")

    def filled(place: re.Match[str]) -> str:
        study, name = place[1] or "study", place[2]
        if name not in WRITERS:
            raise SemoreError(f"{where}: unknown table {name!r}; choose one of {', '.join(WRITERS)}")
        opening = place[0].partition("\n")[0]
        return f"{opening}\n{WRITERS[name](results(study))}\n<!-- end -->"

    return PLACE.sub(filled, page)


def skeleton() -> str:
    """A page with a place for every table and picture, and no prose."""
    parts = ["# Results of the study\n", "![Reward by method](results/study-overview.png)\n"]
    section = ""
    for name in WRITERS:
        part, _, scenario = name.partition("-")
        if part != section:
            parts.append(f"## {SECTIONS[part]}\n")
            section = part
        if scenario:
            parts.append(f"### {scenario}\n")
        if part == "main":
            parts.append(f"![Learning curves](results/study-{scenario}.png)\n")
        parts.append(f"<!-- table: {name} -->\n<!-- end -->\n")
    return "\n".join(parts)
