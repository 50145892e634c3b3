"""The loopback server as any client of its wire sees it; needs no `carla` wheel."""

from __future__ import annotations

import struct
import time

import msgpack
import numpy as np
import pytest
from loopback_thread import Caller, Message, Reader, serving

from collect.carla.loopback.actors import TAGS
from collect.carla.loopback.blueprints import library, paint_of
from collect.embedded.raycast import RENDERER_VERSION
from collect.embedded.shapes import PALETTE
from datasets.schema import KINDS, SemanticClass

SEDAN, AUDI, WALKER = "vehicle.tesla.model3", "vehicle.audi.tt", "walker.pedestrian.0003"


@pytest.fixture(scope="module")
def port():
    with serving() as port:
        yield port


@pytest.fixture
def client(port):
    """A caller in synchronous mode, in a new episode on Town01."""
    caller = Caller(port)
    caller.call("load_new_episode", "Town01", True, 0)
    caller.synchronous()
    yield caller
    caller.close()


def actors_of(message: Message) -> dict[int, tuple[float, ...]]:
    """id → x, y, z, pitch, yaw, roll, vx, vy, vz of a world snapshot."""
    records = message.body[36:]
    assert len(records) % 119 == 0
    rows = [struct.unpack_from("<IB9f", records, at) for at in range(0, len(records), 119)]
    return {row[0]: row[2:] for row in rows}


def watch(client: Caller) -> Reader:
    """The world's snapshots, from the next on."""
    _, (token,) = client.call("get_episode_info")
    return subscribed(client, token)


def subscribed(client: Caller, token: bytes) -> Reader:
    reader = Reader(token)
    client.call("version")
    time.sleep(0.05)  # for the subscription, which nothing acknowledges
    return reader


def listen(client: Caller, sensor: int) -> Reader:
    return subscribed(client, client.call("get_sensor_token", sensor)[0])


def camera(client: Caller, parent: int, kind: str, size: int = 32, **attributes: object) -> tuple[int, Reader]:
    """A camera where Semore's stands on the ego."""
    made = {"image_size_x": size, "image_size_y": size, "fov": 60.0} | attributes
    number = client.spawn(f"sensor.camera.{kind}", 1.0, 0.0, parent=parent, z=1.5, **made)
    return number, listen(client, number)


def pixels(message: Message) -> np.ndarray:
    width, height, _ = struct.unpack_from("<IIf", message.body)
    return np.frombuffer(message.body, np.uint8, offset=12).reshape(height, width, 4)


class TestProcedures:
    def test_says_what_it_is(self, client: Caller) -> None:
        assert client.call("version") == "0.9.16"
        assert client.call("semore_renderer") == RENDERER_VERSION

    def test_streams_are_next_door(self, client: Caller) -> None:
        _, (token,) = client.call("get_episode_info")
        assert struct.unpack_from("<IH", token) == (1, client.port + 1)

    def test_an_unknown_procedure_is_named(self, client: Caller, capfd: pytest.CaptureFixture[str]) -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="make_coffee"):
                client.call("make_coffee", 2)
        assert capfd.readouterr().err.count("make_coffee") == 1  # asynchronous calls never see the error

    def test_maps(self, client: Caller) -> None:
        name, points = client.call("get_map_info")
        assert name == "Carla/Maps/Town01"
        assert len(points) == 2 * 35
        assert "<OpenDRIVE>" in client.call("get_map_data")
        with pytest.raises(RuntimeError, match=r"Town07.*Town01, Town04"):
            client.call("load_new_episode", "Town07", True, 0)

    def test_a_client_in_pieces(self, port: int) -> None:
        caller = Caller(port)
        for byte in msgpack.packb([0, 1, "version", [[False]]]):
            caller.socket.sendall(bytes([byte]))
        assert msgpack.unpackb(caller.socket.recv(99)) == [1, 1, None, [[1, "0.9.16"]]]
        caller.close()

    def test_nonsense_harms_nobody_else(self, client: Caller, port: int, capfd: pytest.CaptureFixture[str]) -> None:
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", msgpack.packb([1, 2, 3]), b"\xc1"):
            other = Caller(port)
            other.socket.sendall(nonsense)
            assert other.socket.recv(99) == b""
            other.close()
        with pytest.raises(RuntimeError, match="set_actor_transform: the arguments"):
            client.call("set_actor_transform", client.call("get_spectator")[0], "nowhere")
        assert "set_actor_transform" in capfd.readouterr().err
        assert client.call("version") == "0.9.16"


class TestBlueprints:
    def test_every_kind_can_be_spawned(self) -> None:
        names = {definition[1] for definition in library()}
        assert {kind.blueprint for kind in KINDS if "*" not in kind.blueprint} < names
        assert sum(name.startswith("walker.") for name in names) == len(PALETTE)

    def test_recommended_colours_are_the_palette(self) -> None:
        (sedan,) = (one for one in library() if one[1] == SEDAN)
        colours = next(one[3] for one in sedan[3] if one[0] == "color")
        assert [paint_of(SEDAN, {"color": colour}) for colour in colours] == list(PALETTE)
        assert paint_of(SEDAN, {"color": "255,0,51"}) == (1.0, 0.0, 0.2)
        assert [paint_of(f"walker.pedestrian.{n:04d}", {}) for n in range(1, 10)] == list(PALETTE)

    def test_refusals_say_why(self, client: Caller) -> None:
        client.spawn(SEDAN, 20.0, 2.0)
        with pytest.raises(RuntimeError, match="collision at spawn"):
            client.spawn(AUDI, 22.0, 2.5)
        client.spawn(AUDI, 26.0, 2.0)
        with pytest.raises(RuntimeError, match="unable to find actor 9999"):
            client.spawn("sensor.other.collision", 0.0, 0.0, parent=9999)
        with pytest.raises(RuntimeError, match=r"no blueprint 'vehicle\.flying\.carpet'"):
            client.call("spawn_actor", [1, "vehicle.flying.carpet", []], [[0, 0, 0], [0, 0, 0]])
        with pytest.raises(RuntimeError, match="5000x128 px"):
            client.spawn("sensor.camera.rgb", 0.0, 0.0, image_size_x=5000, image_size_y=128)


class TestWorld:
    def test_only_ticks_move_a_synchronous_world(self, client: Caller) -> None:
        world = watch(client)
        frame = client.call("tick_cue")
        assert world.read().frame == frame
        time.sleep(0.2)
        assert client.call("tick_cue") == frame + 1
        assert world.read().frame == frame + 1
        world.close()

    def test_a_free_world_moves_by_itself(self, client: Caller) -> None:
        client.call("set_episode_settings", [False, False, [False], True, 0.01, 10, 0.0, True, 3000.0, 2000.0, True])
        world = watch(client)
        first, second = world.read(), world.read()
        assert second.frame == first.frame + 1
        assert second.elapsed - first.elapsed == pytest.approx(0.05)
        world.close()

    def test_the_fixed_delta_is_the_step(self, client: Caller) -> None:
        client.call("set_episode_settings", [True, False, [True, 0.1], True, 0.01, 10, 0.0, True, 3000.0, 2000.0, True])
        world = watch(client)
        client.call("tick_cue")
        client.call("tick_cue")
        assert -world.read().elapsed + world.read().elapsed == pytest.approx(0.1)
        world.close()

    def test_a_car_obeys_its_control_and_a_walker_its_own(self, client: Caller) -> None:
        car, walker = client.spawn(SEDAN, 20.0, 2.0), client.spawn(WALKER, 60.0, 7.5, z=1.0)
        world = watch(client)
        client.call("tick_cue")
        actors = actors_of(world.read())
        assert actors[car][:6] == (20.0, 2.0, 0.0, 0.0, 0.0, 0.0)
        assert actors[walker][2] == pytest.approx(0.9)  # its origin is at half its height
        client.call("apply_control_to_vehicle", car, [1.0, 0.0, 0.0, False, False, False, 0])
        client.call("apply_control_to_walker", walker, [[0.0, -1.0, 0.0], 2.0, False])
        for _ in range(20):
            client.call("tick_cue")
            actors = actors_of(world.read())
        assert actors[car][0] > 22.0
        assert 4.0 < actors[car][6] < 5.0
        assert actors[walker][1] == pytest.approx(5.5, abs=1e-5)
        assert actors[walker][4] == pytest.approx(-90.0)
        assert actors[walker][7] == pytest.approx(-2.0, abs=1e-5)
        world.close()

    def test_teleporting_and_pushing(self, client: Caller) -> None:
        car = client.spawn(SEDAN, 20.0, 2.0)
        client.call("set_actor_transform", car, [[50.0, 2.5, 0.1], [0.0, 90.0, 0.0]])
        client.call("set_actor_target_velocity", car, [0.0, 3.0, 0.0])
        world = watch(client)
        client.call("tick_cue")
        x, y, _, _, yaw, _, vx, vy, _ = actors_of(world.read())[car]
        assert (x, yaw, vx) == pytest.approx((50.0, 90.0, 0.0), abs=1e-5)
        assert y == pytest.approx(2.5 + 0.05 * vy, abs=1e-5)
        assert vy == pytest.approx(3.0, abs=0.01)
        world.close()

    def test_autopilot_follows_the_orders_to_the_traffic_manager(self, client: Caller) -> None:
        slow, fast = client.spawn(AUDI, 20.0, 2.0), client.spawn(AUDI, 60.0, 2.0)
        named = [client.call("get_actors_by_id", [number])[0] for number in (slow, fast)]
        assert client.call("is_traffic_manager_running", 8000) is True
        assert client.call("get_traffic_manager_running", 8000) == ["127.0.0.1", client.port]
        client.bare("register_vehicle", named)
        client.bare("set_percentage_speed_difference", named[0], 50.0)
        client.bare("set_percentage_speed_difference", named[1], -50.0)
        world = watch(client)
        for _ in range(200):
            client.call("tick_cue")
            actors = actors_of(world.read())
        assert actors[slow][6] == pytest.approx(15.0 / 3.6, rel=0.05)  # the limit is 30 km/h
        assert actors[fast][6] == pytest.approx(45.0 / 3.6, rel=0.1)
        client.bare("unregister_vehicle", named)
        client.call("apply_control_to_vehicle", fast, [0.0, 0.0, 1.0, False, False, False, 0])
        for _ in range(60):
            client.call("tick_cue")
            actors = actors_of(world.read())
        assert actors[fast][6] == 0.0
        world.close()

    def test_a_new_episode_is_empty_and_announced(self, client: Caller) -> None:
        client.spawn(SEDAN, 20.0, 2.0)
        before, _ = client.call("get_episode_info")
        world = watch(client)
        client.call("load_new_episode", "Carla/Maps/Town04", True, 0)
        message = world.read()
        assert struct.unpack_from("<Q", message.body) == (before + 1,)
        assert len(actors_of(message)) == 1  # the spectator
        assert client.call("get_map_info")[0] == "Carla/Maps/Town04"
        assert client.call("get_episode_settings")[0] is False
        world.close()

    def test_the_next_client_finds_what_the_last_one_left(self, client: Caller, port: int) -> None:
        car = client.spawn(SEDAN, 20.0, 2.0)
        client.close()
        second = Caller(port)
        assert second.call("get_actors_by_id", [car, 9999])[0][0] == car
        assert second.call("get_episode_settings")[0] is True
        assert second.call("destroy_actor", car) is True
        with pytest.raises(RuntimeError, match="unable to find actor"):
            second.call("destroy_actor", car)
        second.close()

    def test_an_orphaned_sensor_stays_where_it_was(self, client: Caller) -> None:
        car = client.spawn(SEDAN, 20.0, 2.0, yaw=90.0)
        sensor = client.spawn("sensor.other.collision", 1.0, 0.0, parent=car, z=1.5)
        client.call("tick_cue")
        client.call("destroy_actor", car)
        world = watch(client)
        client.call("tick_cue")
        assert actors_of(world.read())[sensor][:3] == pytest.approx((20.0, 3.0, 1.5))
        assert client.call("get_actors_by_id", [sensor])[0][1] == 0
        world.close()

    def test_a_batch_answers_for_each_command(self, client: Caller) -> None:
        (definition,) = (one for one in client.call("get_actor_definitions") if one[1] == AUDI)
        what = [definition[0], AUDI, [[one[0], one[1], one[2]] for one in definition[3]]]
        where = [[30.0, 2.0, 0.1], [0.0, 0.0, 0.0]]
        spawn = [[0, [what, where, [False], 32, "", [[[16, [0, True]]], [[18, [0, 3]]]]]]]
        before = client.call("tick_cue")
        first, second, third = client.bare("apply_batch", [False], [spawn, spawn, [[11, [1, [0.0, 0.0, 1.0]]]]], True)
        assert first[0][0] == 1
        assert second[0][0] == 0
        assert "collision" in second[0][1][0]
        assert "ApplyForce" in third[0][1][0]
        assert client.call("tick_cue") == before + 2
        assert client.call("get_vehicle_light_state", first[0][1]) == [3]

    def test_physics_control_is_kept(self, client: Caller) -> None:
        car = client.spawn(SEDAN, 20.0, 2.0)
        physics = client.call("get_physics_control", car)
        assert physics[11] == 1845.0
        physics[7] = 0.01
        client.call("apply_physics_control", car, physics)
        assert client.call("get_physics_control", car)[7] == 0.01


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
        car = client.spawn(SEDAN, 20.0, 4.0, yaw=60.0)
        blows = listen(client, client.spawn("sensor.other.collision", 0.0, 0.0, parent=car))
        client.call("apply_control_to_vehicle", car, [1.0, 0.0, 0.0, False, False, False, 0])
        for _ in range(60):
            client.call("tick_cue")
        _, other, impulse = events(blows.read())
        assert (other[0], other[2][1], other[4]) == (0, "static.building", bytes([3]))
        assert impulse[1] < 0.0  # the houses on the right push to the left
        blows.close()

    def test_the_railing(self, client: Caller) -> None:
        client.call("load_new_episode", "Town04", True, 0)
        client.synchronous()
        car = client.spawn(SEDAN, 50.0, 12.0, yaw=30.0)
        blows = listen(client, client.spawn("sensor.other.collision", 0.0, 0.0, parent=car))
        client.call("apply_control_to_vehicle", car, [1.0, 0.0, 0.0, False, False, False, 0])
        for _ in range(60):
            client.call("tick_cue")
        _, other, impulse = events(blows.read())
        assert other[2][1] == "static.guardrail"
        assert impulse[1] < -1000.0
        blows.close()


def events(message: Message) -> list:
    return msgpack.unpackb(message.body, raw=False)
