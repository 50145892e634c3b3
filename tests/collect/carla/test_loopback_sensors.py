"""The loopback server's cameras and collision sensors, as any client of its wire sees them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from loopback_thread import Caller, Reader, camera, events, listen, pixels, subscribed

from semore.collect.carla.loopback.actors import TAGS
from semore.collect.carla.loopback.cameras import Cameras
from semore.datasets.rollouts.schema import SemanticClass

SEDAN, AUDI = "vehicle.tesla.model3", "vehicle.audi.tt"


def first_hit(client: Caller, car: int) -> tuple[list, list]:
    """What `car` hits first within 3 s of full throttle, and the impulse."""
    blows = listen(client, client.spawn("sensor.other.collision", 0.0, 0.0, parent=car))
    client.call("apply_control_to_vehicle", car, [1.0, 0.0, 0.0, False, False, False, 0])
    for _ in range(60):
        client.call("tick_cue")
    _, other, impulse = events(blows.read())
    blows.close()
    return other, impulse


class TestPictures:
    def test_a_picture_of_every_kind_with_the_ticks_frame(self, client: Caller) -> None:
        car = client.spawn(SEDAN, 20.0, 2.0)
        other = client.spawn(AUDI, 32.0, 2.0)
        readers = {
            kind: camera(client, car, kind)[1]
            for kind in ("rgb", "semantic_segmentation", "instance_segmentation", "depth")
        }
        frame = client.call("tick_cue")
        shown = {kind: reader.read() for kind, reader in readers.items()}
        assert {message.frame for message in shown.values()} == {frame}
        assert shown["rgb"].transform[:3] == (21.0, 2.0, 1.5)
        assert pixels(shown["rgb"])[..., :3].std() > 20.0
        tags = pixels(shown["semantic_segmentation"])[..., 2]
        assert {TAGS[SemanticClass.ROAD], TAGS[SemanticClass.SKY], TAGS[SemanticClass.CAR]} < set(tags.ravel().tolist())
        objects = pixels(shown["instance_segmentation"]).astype(int)
        number = objects[..., 1] + 256 * objects[..., 0]
        assert (objects[..., 2] == tags).all()
        (seen,) = set(number[number > 0].tolist())  # one car, and the car with the camera is not drawn
        assert seen != other
        assert (tags[number == seen] == TAGS[SemanticClass.CAR]).all()
        code = pixels(shown["depth"]).astype(int)
        depth = (code[..., 2] + 256 * code[..., 1] + 65536 * code[..., 0]) / (2**24 - 1) * 1000.0
        assert depth[number == seen].min() == pytest.approx(32.0 - 4.18 / 2 - 21.0, abs=0.3)
        assert (depth[tags == TAGS[SemanticClass.SKY]] == 1000.0).all()
        for reader in readers.values():
            reader.close()

    def test_other_shapes_are_cut_from_the_square(self, client: Caller) -> None:
        car = client.spawn(SEDAN, 20.0, 2.0)
        square, wide = camera(client, car, "rgb")[1], camera(client, car, "rgb", image_size_y=16)[1]
        client.call("tick_cue")
        np.testing.assert_array_equal(pixels(square.read())[8:24], pixels(wide.read()))
        square.close()
        wide.close()

    def test_sensor_tick_spares_pictures(self, client: Caller) -> None:
        car = client.spawn(SEDAN, 20.0, 2.0)
        _, rare = camera(client, car, "rgb", sensor_tick=0.2)
        frames = [client.call("tick_cue") for _ in range(9)]
        assert [rare.read().frame for _ in range(3)] == frames[::4]
        rare.close()

    def test_weather_lights_and_rain(self, client: Caller) -> None:
        car, front = client.spawn(SEDAN, 20.0, 2.0), client.spawn(AUDI, 45.0, 2.0, yaw=180.0)
        _, rgb = camera(client, car, "rgb", size=64)

        def show(weather: list[float] | None = None) -> np.ndarray:
            if weather is not None:
                client.call("set_weather_parameters", weather)
            client.call("tick_cue")
            return pixels(rgb.read())

        night = [30.0, 0.0, 0.0, 0.0, 0.0, -90.0, 20.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
        rain = [0.0, 100.0, 100.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 50.0, 1.0, 0.0, 0.0, 0.0]
        noon, dark = show(), show(night)
        assert dark.mean() < 0.6 * noon.mean()
        client.call("set_vehicle_light_state", car, [2])
        beams = show()
        assert beams[40:, 20:44].mean() > dark[40:, 20:44].mean() + 5
        client.call("set_vehicle_light_state", front, [0xFFFFFFFF])
        assert show().max() > beams.max() or (show() != beams).any()
        first, second = show(rain), show()
        assert (first != second).any()  # the rain falls
        np.testing.assert_array_equal(show(rain), first)  # and begins alike every time
        rgb.close()


class TestCollisions:
    def test_both_sides_are_told(self, client: Caller) -> None:
        hitter, hit = client.spawn(SEDAN, 20.0, 2.0), client.spawn(AUDI, 26.0, 2.0)
        sensors = [client.spawn("sensor.other.collision", 0.0, 0.0, parent=car) for car in (hitter, hit)]
        first, second = (listen(client, sensor) for sensor in sensors)
        client.call("apply_control_to_vehicle", hitter, [1.0, 0.0, 0.0, False, False, False, 0])
        for _ in range(30):
            client.call("tick_cue")
        ours, theirs = first.read(), second.read()
        assert ours.frame == theirs.frame
        (actor, other, impulse), (_, back, opposite) = events(ours), events(theirs)
        assert (actor[0], other[0], back[0]) == (hitter, hit, hitter)
        assert impulse[0] < -1000.0
        assert opposite[0] == pytest.approx(-impulse[0])
        first.close()
        second.close()

    def test_scenery_is_an_actor_in_no_world(self, client: Caller) -> None:
        other, impulse = first_hit(client, client.spawn(SEDAN, 20.0, 4.0, yaw=60.0))
        assert (other[0], other[2][1], other[4]) == (0, "static.building", bytes([3]))
        assert impulse[1] < 0.0  # the houses on the right push to the left

    def test_the_railing(self, client: Caller) -> None:
        client.call("load_new_episode", "Town04", True, 0)
        client.synchronous()
        other, impulse = first_hit(client, client.spawn(SEDAN, 50.0, 12.0, yaw=30.0))
        assert other[2][1] == "static.guardrail"
        assert impulse[1] < -1000.0


class TestSubscriptions:
    """A tick overtakes the subscription of a client that asked for the stream's token before."""

    def test_what_was_sent_since_the_token_was_asked_for_is_kept(self, client: Caller) -> None:
        sensor = client.spawn("sensor.camera.rgb", 20.0, 2.0, image_size_x=16, image_size_y=16)
        client.call("tick_cue")
        (token,) = client.call("get_sensor_token", sensor)
        first = client.call("tick_cue")
        client.call("get_sensor_token", sensor)  # somebody else's, who is as late
        second = client.call("tick_cue")
        early = Reader(token)
        assert [early.read().frame, early.read().frame] == [first, second]
        late = Reader(token)
        assert late.read().frame == second
        third = client.call("tick_cue")
        assert [early.read().frame, late.read().frame] == [third, third]
        early.close()
        late.close()

    def test_nobody_is_drawn_for_who_does_not_come(self, client: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn: list[int] = []
        pixels_of = Cameras.pixels
        monkeypatch.setattr(Cameras, "pixels", lambda self, one: drawn.append(one.id) or pixels_of(self, one))
        monkeypatch.setattr("semore.collect.carla.loopback.streams.EXPECTED", 0.05)
        sensor = client.spawn("sensor.camera.rgb", 20.0, 2.0, image_size_x=16, image_size_y=16)
        client.call("tick_cue")
        assert drawn == []
        (token,) = client.call("get_sensor_token", sensor)
        client.call("tick_cue")
        assert drawn == [sensor]
        time.sleep(0.1)
        client.call("tick_cue")
        assert drawn == [sensor]
        reader = subscribed(client, token)  # too late for what was, in time for what comes
        frame = client.call("tick_cue")
        assert reader.read().frame == frame
        reader.close()
