"""Draws the contact sheets: the most telling moment of every scenario under every weather, and every actor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from semore.collect.embedded.maps.town import town
from semore.collect.embedded.render.shapes import PALETTE
from semore.collect.embedded.render.sky import atmosphere
from semore.collect.embedded.render.view import draw
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.env import control_of, ego_row
from semore.collect.policies import make_policy
from semore.collect.scenarios import SCENARIOS, WEATHERS, Scenario, Weather
from semore.collect.simulator import Snapshot
from semore.datasets.rollouts.schema import ACTOR_COLUMN, ACTOR_FIELDS, KIND_INDEX, KINDS, Kind

Picture = NDArray[np.uint8]

_SEEDS: Final = 5  # episodes searched per cell
_STEPS: Final = 320
_CAPTION: Final = 16  # pixels over each cell
_SIGHT: Final = 30.0  # m: what is farther away tells nothing
_VIEWS: Final = (("behind", 0.0), ("front", math.pi), ("side", math.pi / 2 + 0.45))
_DISTANCES: Final = {"fire truck": 10.0, "ambulance": 8.3, "cyclist": 4.4, "pedestrian": 4.0}  # m; cars 6.5
_NO_LAMPS: Final = ("cyclist", "pedestrian")


def telling(scenario: Scenario, shot: Snapshot) -> float:
    """A score of a snapshot: higher with key objects of the scenario ahead in the picture, near but not too near."""
    ego, actors = shot.ego, shot.actors
    dx, dy = actors[:, ACTOR_COLUMN["x"]] - ego.x, actors[:, ACTOR_COLUMN["y"]] - ego.y
    cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
    ahead, right = dx * cos + dy * sin - 1.0, dy * cos - dx * sin
    kinds, down = actors[:, ACTOR_COLUMN["kind"]], actors[:, ACTOR_COLUMN["down"]]
    seen = (ahead > 3.5) & (ahead < _SIGHT) & (np.abs(right) < 0.45 * ahead) & (down == 0.0)
    near = seen / (1.0 + np.abs(ahead - 8.0))
    if scenario.walkers:
        return float(near[np.abs(right) < 5.0].sum())
    cyclist = kinds == KIND_INDEX["cyclist"]
    if cyclist.any():  # the cyclist with someone oncoming beside it
        oncoming = near[~cyclist & (ahead > 6.0)]
        return float(min(near[cyclist].max(), oncoming.max(initial=0.0)) + 0.1 * near.sum())
    return float(near[ahead > 6.0].sum())


def episode(simulator: EmbeddedSimulator, scenario: Scenario, weather: Weather, seed: int) -> Iterator[Snapshot]:
    """The snapshots of one episode under the rule-based driver, until it leaves the road or time is up."""
    driver = make_policy("driver")
    driver.start([seed])
    shot = simulator.reset(scenario, weather, seed)
    for _ in range(_STEPS):
        if shot.lane is None:
            return
        yield shot
        info = {"ego": ego_row(shot), "actors": shot.actors}
        shot = simulator.step(control_of(driver.act([0], np.empty((1, 0), np.uint8), [info])[0]))


def best_moment(scenario: Scenario, weather: Weather, seeds: Sequence[int], size: int) -> Picture:
    """The picture with the highest score among the episodes `seeds`, (size, size, 3)."""
    simulator = EmbeddedSimulator(size)
    best, chosen = -1.0, None
    for seed in seeds:
        for shot in episode(simulator, scenario, weather, seed):
            score = telling(scenario, shot)
            if score > best:
                best, chosen = score, shot
    assert chosen is not None, "an episode has at least its first moment"
    return chosen.images.rgb


def portrait(kind: Kind, yaw: float, weather: Weather, lights: bool, brake: bool, size: int) -> Picture:
    """One actor in the street ahead of the camera, turned by `yaw` (rad) from facing away, (size, size, 3)."""
    row = dict.fromkeys(ACTOR_FIELDS, 0.0) | {
        "id": 1, "kind": KIND_INDEX[kind.name], "x": 41.0 + _DISTANCES.get(kind.name, 6.5), "y": 2.0, "yaw": yaw,
        "vx": 1.4 * math.cos(yaw), "vy": 1.4 * math.sin(yaw), "lights": lights and kind.name not in _NO_LAMPS,
        "length": kind.length, "width": kind.width, "height": kind.height, "brake": brake,
    }  # fmt: skip
    actors = np.array([[row[name] for name in ACTOR_FIELDS]], np.float32)
    paint = np.array([PALETTE[(4 * KIND_INDEX[kind.name] + 1) % len(PALETTE)]])
    street = town("Town01")
    return draw(street, atmosphere(weather), size, 40.0, 2.0, 0.0, actors, paint, weather.headlights, 0).rgb


def sheet(cells: Sequence[Sequence[tuple[str, Picture]]]) -> Image.Image:
    """Rows of captioned pictures of one size as one image."""
    size = cells[0][0][1].shape[0]
    image = Image.new("RGB", (size * len(cells[0]), (size + _CAPTION) * len(cells)))
    pen = ImageDraw.Draw(image)
    for i, row in enumerate(cells):
        for j, (caption, picture) in enumerate(row):
            corner = j * size, i * (size + _CAPTION)
            image.paste(Image.fromarray(picture), (corner[0], corner[1] + _CAPTION))
            pen.text((corner[0] + 4, corner[1] + 2), caption, fill="white")
    return image


def gallery(size: int) -> Image.Image:
    """The contact sheet of every scenario (rows) under every weather (columns)."""
    return sheet(
        [
            [
                (f"{scenario.name}  {name}", best_moment(scenario, weather, range(_SEEDS * i, _SEEDS * (i + 1)), size))
                for i, (name, weather) in enumerate(WEATHERS.items())
            ]
            for scenario in SCENARIOS.values()
        ]
    )


def actors(size: int) -> Image.Image:
    """The contact sheet of all actor kinds: by day from three sides, and braking at midnight with lights on."""
    day, night = WEATHERS["hard_high_light"], WEATHERS["midnight"]
    rows = [
        [(f"{kind.name}, {view}", portrait(kind, yaw, day, lights=False, brake=False, size=size)) for kind in KINDS]
        for view, yaw in _VIEWS
    ]
    rows.append(
        [(f"{kind.name}, midnight", portrait(kind, 0.0, night, lights=True, brake=True, size=size)) for kind in KINDS]
    )
    return sheet(rows)
