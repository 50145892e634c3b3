"""The report's page: results, charts and films put into the template."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from semore.datasets.provenance import code_version
from semore.evaluate.claims import TEST_SEEDS, TRAINING_SEEDS
from semore.evaluate.report import charts, figures
from semore.evaluate.report.charts import Dots, Series
from semore.evaluate.report.media import Album, Clip, attention_pictures
from semore.evaluate.report.narrative import Finding, doubts, findings, headline
from semore.evaluate.report.provenance import source_of
from semore.evaluate.report.results import Duel, Line, duels, lines
from semore.evaluate.report.runs import Contender, contenders, courses, differing
from semore.evaluate.runs import Cell, Run

LIMIT: Final = 15_000_000
"""Bytes of the whole file at most."""
TEXT: Final = 1_500_000
"""Bytes of them kept for text and charts."""
AT_THE_END: Final = (
    "transitions", "dropped", "admit_rate", "reasonable_share", "unjudged_share", "known_share", "terminal_share",
)  # fmt: skip
"""Measures of the buffer told as numbers."""
SHORT: Final = {"driver": "rule-based driver", "blind_driver": "driver ignoring all", "fast_driver": "at 25 m/s"}
"""Baselines in a chart's narrow rows."""
POLICIES: Final = {"trained": "ink", "noisy_driver": "b1", "wander": "b2", "random": "b3", "driver": "b4"}
"""Colours of the buffer's parts by who drove; `ink` stands for the contender's own colour."""


@dataclass(frozen=True)
class Results:
    """The tables and charts of one course."""

    course: Cell
    headline: str
    lines: list[Line]
    duels: list[Duel]
    findings: list[Finding]
    doubts: list[str]
    reward_chart: Markup
    duel_chart: Markup


@dataclass(frozen=True)
class Buffer:
    """What the replay buffer of one run was made of."""

    contender: Contender
    shares: list[Series]
    chart: Markup
    filter_chart: Markup
    last: dict[str, float]


@dataclass(frozen=True)
class Shown:
    """A clip as data URIs: its film or strip, None where the page had no room left, and a still of the film."""

    clip: Clip
    address: str | None
    poster: str | None


def render(runs: Sequence[Run], clips: dict[str, list[Clip]], watts: float, missing: dict[str, str]) -> str:
    """The HTML text. `clips` by run name; `missing` says why a run has none; `watts` are of one busy core."""
    group = contenders(runs)
    album = Album(LIMIT - TEXT)
    films, strips = _shown(group, clips, album)
    environment = Environment(
        loader=PackageLoader("semore.evaluate.report", "page"), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "number": figures.number, "spread": figures.spread, "interval": figures.interval,
        "duration": figures.duration, "ended": figures.ended, "plain": lambda name: str(name).replace("_", " "),
    }  # fmt: skip
    loader = environment.loader
    assert loader is not None
    context: dict[str, Any] = {
        "style": Markup(loader.get_source(environment, "style.css")[0]),
        "script": Markup(loader.get_source(environment, "script.js")[0]),
        "made": datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        "version": code_version(),
        "contenders": group,
        "runs": runs,
        "results": [_results(group, runs, course, place) for place, course in enumerate(courses(runs))],
        "learning": _learning(group),
        "mask_chart": _masks(group),
        "buffers": [_buffer(one) for one in group],
        "attention": _attention(group, album),
        "films": films,
        "strips": strips,
        "missing": missing,
        "left_out": album.left_out,
        "differing": differing(runs),
        "sources": [source_of(run, watts) for run in runs],
        "watts": watts,
        "test_seeds": TEST_SEEDS,
        "training_seeds": TRAINING_SEEDS,
    }
    return environment.get_template("report.html.j2").render(context)


def _results(group: Sequence[Contender], runs: Sequence[Run], course: Cell, place: int) -> Results:
    table = lines(group, course)
    pairs = duels(table)
    dots = [
        Dots(
            line.label, figures.number(line.reward.mean), _pooled(line.rewards), line.reward.mean, line.reward.low,
            line.reward.high, _colour(line.number),
        )
        for line in table
    ]  # fmt: skip
    differences = [
        Dots(
            f"{duel.ours.label} − {SHORT.get(duel.theirs.policy, duel.theirs.label)}", duel.verdict,
            duel.per_seed, duel.difference.mean, duel.difference.low, duel.difference.high, _colour(duel.ours.number),
        )
        for duel in pairs
    ]  # fmt: skip
    title = f"{course[0]}, {course[1]}"
    return Results(
        course, headline(table, pairs, course), table, pairs, findings(pairs), doubts(table, pairs, runs, course),
        charts.intervals(f"reward-{place}", f"Episode reward on {title}", dots, "episode reward"),
        charts.intervals(f"duel-{place}", f"Paired differences on {title}", differences, "difference in reward", True),
    )  # fmt: skip


def _learning(group: Sequence[Contender]) -> list[tuple[str, Markup]]:
    """Validation curves over decisions."""
    found = []
    for name, metric, unit in (
        ("Reward", "validation/reward", "mean validation reward"),
        ("Crash intensity", "validation/crash_intensity", "mean N·s"),
    ):
        series = []
        for one in group:
            series += _mean_and_each(one, [run.over_decisions(metric) for run in one.runs])
        chart = charts.curves(f"learning-{name.split()[0].lower()}", name, series, "decisions recorded", unit)
        if chart:
            found.append((name, chart))
    return found


def _masks(group: Sequence[Contender]) -> Markup:
    series = []
    for one in group:
        series += _mean_and_each(one, [run.metric("health/student_auc") for run in one.runs])
    if not any(len(one.points) for one in series):
        return Markup("")
    constant = [run.metric("health/constant_auc") for one in group for run in one.runs]
    longest = max(constant, key=len)
    series.append(Series("constant map", longest, "ink", "dashed"))
    return charts.curves("mask-auc", "The student mask's AUC per cell while training", series, "updates", "AUC")


def _buffer(one: Contender) -> Buffer:
    run = one.first
    names = [name for name in run.metrics if name.startswith("replay/share_")]
    parts = sorted(names, key=lambda name: (name != "replay/share_trained", name))
    xs = run.metric("replay/transitions")[:, 0]
    shares = [
        Series(name.removeprefix("replay/share_"), _filled(run.metric(name), xs), _part(name, one.number, place))
        for place, name in enumerate(parts)
    ]
    chart = charts.areas(f"buffer-{one.number}", f"Who drove what {one.label} learns from", shares, "updates", "share")
    rates = [
        Series("δ", run.metric("replay/delta"), "ink", "dashed"),
        Series("admission rate of the newest decisions", run.metric("replay/admit_rate_newest"), f"c{one.number % 8}"),
        Series("share judged reasonable", run.metric("replay/reasonable_share"), f"c{one.number % 8}", "dotted"),
    ]
    last = {
        name: float(run.metric(f"replay/{name}")[-1, 1]) for name in AT_THE_END if len(run.metric(f"replay/{name}"))
    }
    title = f"The admission filter of {one.label}"
    return Buffer(one, shares, chart, charts.curves(f"filter-{one.number}", title, rates, "updates", "", 240), last)


def _attention(group: Sequence[Contender], album: Album) -> list[tuple[Contender, list[tuple[int, str]]]]:
    """The last picture of every contender first, then the earlier ones while there is room."""
    drawn = {one: attention_pictures(one.first) for one in group}
    newest = {one: album.add(pictures[-1][1]) for one, pictures in drawn.items() if pictures}
    found = []
    for one, pictures in drawn.items():
        addresses = [(update, album.add(path)) for update, path in pictures[:-1]]
        addresses += [(pictures[-1][0], newest[one])] if pictures else []
        found.append((one, [(update, address) for update, address in addresses if address]))
    return found


def _shown(
    group: Sequence[Contender], clips: dict[str, list[Clip]], album: Album
) -> tuple[list[tuple[Contender, list[Shown]]], list[tuple[Contender, list[Shown]]]]:
    """Films and strips by contender; what matters most enters the album first: everybody's median, worst, best."""
    own = {one: clips.get(one.first.name, []) for one in group}
    order = sorted(
        ((one, clip) for one in group for clip in own[one]),
        key=lambda pair: ("median", "worst", "crash", "best").index(pair[1].role.split()[0]),
    )
    shown: dict[Contender, dict[Clip, Shown]] = {one: {} for one in group}
    for one, clip in order:
        path = clip.film or clip.strip
        address = album.add(path) if path else None
        shown[one][clip] = Shown(clip, address, album.still(clip.film) if clip.film and address else None)

    def of(one: Contender, crash: bool) -> list[Shown]:
        return [shown[one][clip] for clip in own[one] if (clip.role == "crash") == crash]

    return [(one, of(one, False)) for one in group], [(one, of(one, True)) for one in group]


def _mean_and_each(one: Contender, curves: Sequence[NDArray[np.float64]]) -> list[Series]:
    """A bold line for the mean over training seeds where all have a point, a thin one for each seed if several."""
    curves = [curve for curve in curves if len(curve)]
    if not curves:
        return []
    shortest = min(map(len, curves))
    mean = np.mean([curve[:shortest] for curve in curves], axis=0)
    colour = _colour(one.number)
    each = [Series(run.name, curve, colour, "thin") for run, curve in zip(one.runs, curves, strict=False)]
    return [*(each if len(curves) > 1 else []), Series(one.label, mean, colour)]


def _filled(points: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points at xs, 0 before the first: a behaviour that has not driven yet has no share."""
    values = np.interp(xs, points[:, 0], points[:, 1], left=0.0) if len(points) else np.zeros(len(xs))
    return np.stack([xs, values], 1)


def _pooled(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    return rewards[np.isfinite(rewards)]


def _colour(number: int | None) -> str:
    return "ink" if number is None else f"c{number % 8}"


def _part(name: str, number: int, place: int) -> str:
    colour = POLICIES.get(name.removeprefix("replay/share_"), f"b{1 + place % 4}")
    return f"c{number % 8}" if colour == "ink" else colour
