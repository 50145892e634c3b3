"""JayWalk, HighBeam and HighWay as data (method.md §2.2): who stands where, how fast, under which sky."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from semore.datasets.errors import SemoreError

Range = tuple[float, float]


@dataclass(frozen=True)
class Weather:
    """CARLA's weather parameters: percentages, and the sun's altitude in degrees (negative at night)."""

    name: str
    cloudiness: float
    precipitation: float
    deposits: float
    fog_density: float
    wetness: float
    sun_altitude: float

    @property
    def headlights(self) -> bool:
        """Whether the ego drives with low beams: at midnight and in dense fog."""
        return self.name in ("midnight", "dense_fog")


@dataclass(frozen=True)
class EgoStart:
    """Where the ego starts. `jitter_offset` (m) and `jitter_yaw` (rad) are half-widths that the paper does not have."""

    road: int
    lanes: tuple[int, ...]
    s: Range
    jitter_offset: float = 0.8
    jitter_yaw: float = 0.06


@dataclass(frozen=True)
class VehicleGroup:
    """`count` vehicles drawn from `kinds` (names of datasets.rollouts.schema.KINDS) at s uniform in `s`.

    `speed_difference` is the traffic manager's percentage: negative drives faster than the limit.
    `lights` is the probability that a vehicle has all its lights on.
    """

    count: int
    kinds: tuple[str, ...]
    road: int
    lanes: tuple[int, ...]
    s: Range
    speed_difference: Range
    lights: float


@dataclass(frozen=True)
class WalkerSpawn:
    """One walker on sidewalk lane `lane` at s uniform in `s`; it follows the crossing rule of method.md §2.2."""

    road: int
    lane: int
    s: Range


@dataclass(frozen=True)
class Scenario:
    """A scenario as published, apart from the start jitter (see `published_start`)."""

    name: str
    map: str
    ego: EgoStart
    weather: str
    vehicles: tuple[VehicleGroup, ...] = ()
    walkers: tuple[WalkerSpawn, ...] = ()
    walker_speed: Range = (1.0, 8.0)
    walker_band: float = 6.0
    """Half-width (m) of the band around the road's reference line in which a walker keeps crossing."""

    def published_start(self) -> Scenario:
        """The same scenario with the paper's fixed start pose."""
        return replace(self, ego=replace(self.ego, jitter_offset=0.0, jitter_yaw=0.0))


WEATHERS: Final[dict[str, Weather]] = {
    weather.name: weather
    for weather in (
        Weather("hard_high_light", 20, 0, 0, 0, 50, 90),
        Weather("normal", 20, 0, 0, 20, 0, 10),
        Weather("midnight", 30, 0, 0, 20, 0, -90),
        Weather("cloudy", 40, 0, 0, 0, 20, 20),
        Weather("hard_rain", 0, 100, 100, 0, 50, 5),
        Weather("dense_fog", 50, 0, 0, 100, 0, 5),
    )
}

_CARS = ("sedan", "sports car", "police car", "muscle car", "electric SUV")

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="JayWalk",
            map="Town01",
            ego=EgoStart(road=12, lanes=(-1,), s=(0.2, 2.2)),
            weather="hard_high_light",
            walkers=tuple(WalkerSpawn(12, lane, s) for s in ((20.0, 22.0), (100.0, 102.0)) for lane in (-3, 3)),
        ),
        Scenario(
            name="HighBeam",
            map="Town01",
            ego=EgoStart(road=12, lanes=(-1,), s=(0.2, 2.2)),
            weather="midnight",
            vehicles=(
                VehicleGroup(1, ("cyclist",), 12, (-1,), (30.0, 35.0), (-10.0, 0.0), lights=0.0),
                VehicleGroup(
                    3,
                    ("fire truck", "sports car", "police car", "muscle car", "electric SUV", "ambulance"),
                    12, (1,), (15.0, 120.0), (-60.0, -30.0), lights=1.0,
                ),
            ),
        ),
        Scenario(
            name="HighWay",
            map="Town04",
            ego=EgoStart(road=45, lanes=(-1, -2, -3, -4), s=(100.0, 110.0)),
            weather="hard_high_light",
            vehicles=(
                VehicleGroup(20, (*_CARS, "ambulance"), 45, (-1, -2, -3, -4), (115.0, 300.0), (-60.0, -30.0), 0.5),
            ),
        ),
    )
}  # fmt: skip


def scenario(name: str) -> Scenario:
    """The scenario called `name`, in any case; SemoreError naming the choices otherwise."""
    for known in SCENARIOS.values():
        if known.name.lower() == name.lower():
            return known
    raise SemoreError(f"unknown scenario {name!r}; choose one of {', '.join(SCENARIOS)}")


def scenario_and_weather(name: str, weather_name: str = "") -> tuple[Scenario, Weather]:
    """The scenario called `name` and the named weather, by default the scenario's own; SemoreError for an unknown
    name."""
    found = scenario(name)
    return found, weather(weather_name or found.weather)


def weather(name: str) -> Weather:
    """The weather called `name`; SemoreError naming the choices otherwise."""
    if name not in WEATHERS:
        raise SemoreError(f"unknown weather {name!r}; choose one of {', '.join(WEATHERS)}")
    return WEATHERS[name]
