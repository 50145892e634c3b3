"""The loopback server as any client of its wire sees it; needs no `carla` wheel."""

from __future__ import annotations

import struct
import time

import msgpack
import pytest
from loopback_thread import Caller, actors_of, watch

from semore.collect.carla.loopback.blueprints import library, paint_of
from semore.collect.embedded.render.raycast import RENDERER_VERSION
from semore.collect.embedded.render.shapes import PALETTE
from semore.datasets.rollouts.schema import KINDS

SEDAN, AUDI, WALKER = "vehicle.tesla.model3", "vehicle.audi.tt", "walker.pedestrian.0003"


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
