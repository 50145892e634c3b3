"""The loopback server's world is the embedded one: the same cars, hits and pictures for the same start and controls."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semore.collect.carla.loopback.actors import LOW_BEAM, Actor, Body, Vehicle, Walker
from semore.collect.carla.loopback.blueprints import library
from semore.collect.carla.loopback.cameras import Cameras
from semore.collect.carla.loopback.faults import Fault
from semore.collect.carla.loopback.simulation import Simulation
from semore.collect.carla.loopback.street import step
from semore.collect.carla.loopback.traffic import Traffic
from semore.collect.embedded.maps.road import travel
from semore.collect.embedded.maps.town import town
from semore.collect.embedded.placement import Cast, place
from semore.collect.embedded.render.shapes import PALETTE
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.scenarios import SCENARIOS, WEATHERS, Scenario, Weather
from semore.collect.simulator import Control, Snapshot
from semore.collect.spawns import episode_generator
from semore.datasets.rollouts.schema import DT, KINDS

SEDAN = "vehicle.tesla.model3"


class Staged:
    """A scenario's start put into a Simulation as an adapter would, but with all digits."""

    def __init__(self, scenario: Scenario, weather: Weather, seed: int) -> None:
        self.simulation = Simulation(scenario.map, lambda stream, data: None, lambda stream: False, Fault())
        self.simulation.set_weather(
            [weather.cloudiness, weather.precipitation, weather.deposits, 0.0, 0.0, weather.sun_altitude,
             weather.fog_density, 0.0, 0.0, weather.wetness]
        )  # fmt: skip
        road = town(scenario.map).road
        cast: Cast = place(scenario, road, episode_generator(scenario, seed))
        self.ego = self.spawn(SEDAN, cast.ego.x, cast.ego.y, cast.ego.yaw)
        self.ego.lights = LOW_BEAM if weather.headlights else 0
        traffic = Traffic(self.simulation)
        paints = [PALETTE.index(tuple(paint)) for paint in cast.paint.tolist()]
        for row, actor, paint in zip(cast.vehicles, cast.actors, paints, strict=False):
            x, y, heading = road.pose(row[0], row[1])
            colour = ",".join(str(round(255 * part)) for part in PALETTE[paint])
            yaw = heading if row[4] > 0 else heading + math.pi
            car = self.spawn(KINDS[int(actor[1])].blueprint, x, y, yaw, color=colour)
            car.lights = 0xFFFFFFFF if actor[11] else 0
            traffic.autopilot(car.id, True)
            car.row[6] = row[6]  # the desired speed, without the percentage's rounding
        for row, paint in zip(cast.walkers, paints[len(cast.vehicles) :], strict=True):
            heading = road.pose(row[0], 0.0)[2]
            self.spawn(f"walker.pedestrian.{paint + 1:04d}", row[2], row[3], heading + row[7] * math.pi / 2, z=0.9)

    def spawn(self, blueprint: str, x: float, y: float, yaw: float, z: float = 0.0, parent: int = 0, **attributes):
        (definition,) = (one for one in library() if one[1] == blueprint)
        values = [[one[0], one[1], str(attributes.get(one[0], one[2]))] for one in definition[3]]
        where = (x, y, z, 0.0, math.degrees(yaw), 0.0)
        return self.simulation.actors.spawn([definition[0], blueprint, values], where, parent)

    def step(self, control: Control) -> tuple[float, ...]:
        """Magnitudes of the impulses on the ego."""
        self.ego.control = [control.throttle, control.steer, control.brake, False, False, False, 0]
        hits = step(self.simulation.actors, self.simulation.rng, DT)
        return tuple(math.hypot(*hit.impulse) for hit in hits if hit.body is self.ego)

    def others(self) -> np.ndarray:
        """(A, 5) x, y, vx, vy, down of everybody but the ego."""
        bodies = [body for body in self.simulation.actors.every(Body) if body is not self.ego]
        return np.array([(body.x, body.y, body.vx, body.vy, body.down) for body in bodies])

    def camera(self, size: int) -> Actor:
        made = {"image_size_x": size, "image_size_y": size, "fov": 60.0}
        return self.spawn("sensor.camera.rgb", 1.0, 0.0, 0.0, 1.5, self.ego.id, **made)


def full_throttle(step: int) -> Control:
    return Control(0.03 * math.sin(step / 9), 1.0, 0.0)


@pytest.mark.parametrize(("name", "seed"), [("HighWay", 0), ("HighWay", 3), ("HighBeam", 1)])
def test_traffic_ego_and_hits_are_the_embedded_worlds(name: str, seed: int) -> None:
    """Within what the embedded world loses by keeping its actors in single precision."""
    scenario = SCENARIOS[name]
    staged, embedded = Staged(scenario, WEATHERS["normal"], seed), EmbeddedSimulator(16)
    embedded.reset(scenario, WEATHERS["normal"], seed)
    collided = 0
    for number in range(160):
        control = full_throttle(number)
        impulses, shot = staged.step(control), embedded.step(control)
        assert (staged.ego.x, staged.ego.y, staged.ego.yaw) == pytest.approx(
            (shot.ego.x, shot.ego.y, shot.ego.yaw), abs=1e-3
        )
        assert impulses == pytest.approx([hit.impulse for hit in shot.collisions], rel=0.01, abs=0.5)
        np.testing.assert_allclose(staged.others(), shot.actors[:, [2, 3, 6, 7, 12]], atol=5e-3)
        collided += len(impulses)
    assert collided > 0 or name == "HighBeam"


def test_a_walker_told_to_cross_moves_as_the_rule_does() -> None:
    """The adapter's part of the rule is acted out: the sign of the walker's velocity across the road, as it was."""
    scenario, seed = SCENARIOS["JayWalk"], 5
    staged, embedded = Staged(scenario, WEATHERS["normal"], seed), EmbeddedSimulator(16)
    road, cast = town(scenario.map).road, place(scenario, town(scenario.map).road, episode_generator(scenario, seed))
    before: Snapshot = embedded.reset(scenario, WEATHERS["normal"], seed)
    people = staged.simulation.actors.every(Walker)
    fallen = 0
    for number in range(120):
        shot = embedded.step(full_throttle(number))
        for walker, was, now in zip(people, before.actors, shot.actors, strict=True):
            heading = road.pose(road.locate(walker.x, walker.y)[0], 0.0)[2]
            across = float(np.dot(now[2:4] - was[2:4], (-math.sin(heading), math.cos(heading)))) / DT
            speed = cast.walk_right if across > 0.1 else cast.walk_left if across < -0.1 else 0.0
            side = math.copysign(1.0, across)
            walker.control = [[-math.sin(heading) * side, math.cos(heading) * side, 0.0], speed, False]
        staged.step(full_throttle(number))
        if not any(now[12] for now in shot.actors) and not shot.collisions:
            np.testing.assert_allclose(staged.others()[:, :2], shot.actors[:, 2:4], atol=0.05)
        fallen = max(fallen, sum(walker.down for walker in people))
        before = shot
    assert (staged.ego.x, staged.ego.y) == pytest.approx((shot.ego.x, shot.ego.y), abs=0.5)
    assert fallen == sum(int(now[12]) for now in shot.actors)


def test_a_soft_hit_dazes_a_walker_and_a_hard_one_throws_it_down() -> None:
    for speed, falls in ((1.5, False), (12.0, True)):
        staged = Staged(SCENARIOS["JayWalk"], WEATHERS["normal"], 0)
        walker = staged.spawn("walker.pedestrian.0001", staged.ego.x + 3.0, staged.ego.y, 0.0, z=0.9)
        staged.ego.vx = speed
        staged.simulation.actors.settle(staged.ego)
        while not (hits := staged.step(Control())):
            pass
        assert hits[0] == pytest.approx(1845 * 75 / 1920 * speed, rel=0.05)
        assert walker.down is falls
        assert staged.simulation.actors.transform(walker)[5] == (90.0 if falls else 0.0)
        at = (walker.x, walker.y)
        walker.control = [[0.0, 1.0, 0.0], 3.0, False]
        staged.ego.frozen = True
        for _ in range(60 if falls else 10):
            staged.step(Control())
        assert walker.y == pytest.approx(at[1], abs=0.05)  # it obeys nobody now


def test_two_driven_cars_and_traffic_that_sees_both() -> None:
    scenario = SCENARIOS["HighWay"]
    staged = Staged(scenario, WEATHERS["normal"], 0)
    road = town(scenario.map).road
    for car in [body for body in staged.simulation.actors.every(Vehicle) if body is not staged.ego]:
        staged.simulation.actors.destroy(car.id)
    t = road.lane_centre(-2)
    x, y, heading = road.pose(600.0, t)
    staged.spawn("vehicle.audi.tt", x, y, heading)  # stands in the way, on nobody's autopilot
    x, y, heading = road.pose(540.0, t)
    follower = staged.spawn("vehicle.audi.tt", x, y, heading)
    Traffic(staged.simulation).autopilot(follower.id, True)
    follower.row[6] = 14.0
    for _ in range(400):
        assert not step(staged.simulation.actors, staged.simulation.rng, DT)
    assert road.locate(follower.x, follower.y)[0] > 590.0  # it stopped or went round, and hit nobody
    assert travel(-2) == 1


@pytest.mark.parametrize("weather", ["hard_high_light", "midnight", "hard_rain"])
@pytest.mark.parametrize("name", ["JayWalk", "HighBeam"])
def test_the_picture_is_the_embedded_cameras(name: str, weather: str) -> None:
    scenario, air = SCENARIOS[name], WEATHERS[weather]
    staged, embedded = Staged(scenario, air, 7), EmbeddedSimulator(64)
    shot = embedded.reset(scenario, air, 7)
    seen = Cameras(staged.simulation.actors, staged.simulation.air, shot.tick)
    bgra = np.frombuffer(seen.pixels(staged.camera(64)), np.uint8).reshape(64, 64, 4)
    np.testing.assert_array_equal(bgra[..., 2::-1], shot.images.rgb)
    assert (bgra[..., 3] == 255).all()


def test_object_ids_are_not_the_actors_and_differ() -> None:
    staged = Staged(SCENARIOS["HighWay"], WEATHERS["normal"], 0)
    bodies = staged.simulation.actors.every(Vehicle)
    assert [body.slot for body in bodies] == list(range(21))
    assert len({body.object_id for body in bodies}) == 21
    assert all((slot * 40505 + 20484) & 0xFFFF for slot in range(4096))
    staged.simulation.actors.destroy(bodies[3].id)
    again = staged.spawn("vehicle.audi.tt", 20.0, 20.0, 0.0)
    assert again.slot == 3
    assert again.id > bodies[-1].id
