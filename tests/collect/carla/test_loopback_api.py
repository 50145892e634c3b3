"""Calls of the true client that CARLA's own scripts make: what they answer over the loopback server."""

from __future__ import annotations

import pytest
from true_client import run


def test_every_camera_sees_the_first_tick_after_listen_and_none_before(port: int) -> None:
    answer = run(
        port,
        """
        world = client.load_world("Town01")
        synchronous()
        look = library.find("sensor.camera.rgb")
        for name, value in {"image_size_x": 8, "image_size_y": 8}.items():
            look.set_attribute(name, str(value))
        answer["late"] = []
        for _ in range(60):
            received = queue.Queue()
            camera = world.spawn_actor(look, at(20, 2, z=1.5))
            world.tick()
            camera.listen(received.put)
            frame = world.tick()
            answer["late"].append(frame - received.get(timeout=5).frame)
            camera.stop()
            camera.listen(received.put)
            frame = world.tick()
            answer["late"].append(frame - received.get(timeout=5).frame)
            camera.destroy()
        """,
    )
    assert answer == {"late": [0] * 120}


def test_reloading_empties_the_map_that_is_open(port: int) -> None:
    answer = run(
        port,
        """
        world = client.load_world("Town04")
        synchronous()
        world.spawn_actor(library.find("vehicle.tesla.model3"), at(50, 5))
        before = world.id
        world = client.reload_world(False)
        answer["kept"] = [world.id > before, world.get_map().name, world.get_settings().synchronous_mode]
        answer["left"] = [actor.type_id for actor in world.get_actors()]
        answer["reset"] = client.reload_world().get_settings().synchronous_mode
        """,
    )
    assert answer == {"kept": [True, "Carla/Maps/Town04", True], "left": ["spectator"], "reset": False}


def test_who_is_spawned_at_a_spawn_point_has_its_yaw(port: int) -> None:
    answer = run(
        port,
        """
        world = client.load_world("Town01")
        synchronous()
        points = world.get_map().get_spawn_points()
        audi = library.find("vehicle.audi.tt")
        made = client.apply_batch_sync([carla.command.SpawnActor(audi, point) for point in points], True)
        yaws = [world.get_actor(one.actor_id).get_transform().rotation.yaw for one in made]
        answer["apart"] = max(abs(yaw - point.rotation.yaw) for yaw, point in zip(yaws, points))
        answer["farthest"] = max(map(abs, yaws))
        """,
    )
    assert answer["apart"] < 1e-3
    assert answer["farthest"] <= 180.0


def test_a_control_that_is_not_sticky_holds_for_one_tick(port: int) -> None:
    answer = run(
        port,
        """
        world = client.load_world("Town01")
        synchronous()
        model = library.find("vehicle.tesla.model3")
        def drive(sticky, y):
            model.set_attribute("sticky_control", sticky)
            car = world.spawn_actor(model, at(20, y))
            car.apply_control(carla.VehicleControl(throttle=1.0))
            throttle = []
            for _ in range(3):
                world.tick()
                throttle.append(car.get_control().throttle)
            car.apply_control(carla.VehicleControl(throttle=0.5))
            world.tick()
            return [*throttle, car.get_control().throttle, car.get_velocity().x]
        answer["sticky"], answer["not"] = drive("true", 2), drive("False", -2)
        """,
    )
    assert answer["sticky"][:4] == [1.0, 1.0, 1.0, 0.5]
    assert answer["not"][:4] == [1.0, 0.0, 0.0, 0.5]
    assert answer["sticky"][4] > 1.5 * answer["not"][4] > 0.0


def test_rays_meet_the_ground_bodies_and_scenery(port: int) -> None:
    answer = run(
        port,
        """
        world = client.load_world("Town01")
        synchronous()
        world.spawn_actor(library.find("vehicle.tesla.model3"), at(20, 2))
        world.spawn_actor(library.find("walker.pedestrian.0001"), at(40, 7.5, z=1.0))
        world.tick()
        def told(point):
            place = point and point.location
            return point and [str(point.label), *(round(part, 3) for part in (place.x, place.y, place.z))]
        def below(x, y, reach=100.0):
            return told(world.ground_projection(carla.Location(x, y, 5.0), reach))
        answer["below"] = [below(30, 2), below(30, 7.5), below(30, 12), below(20, 2), below(40, 7.5), below(30, 2, 4.9)]
        answer["ahead"] = told(world.project_point(carla.Location(0, 2, 1.0), carla.Vector3D(x=2.0), 50.0))
        answer["up"] = told(world.project_point(carla.Location(30, 2, 1.0), carla.Vector3D(z=1.0), 50.0))
        answer["nowhere"] = told(world.project_point(carla.Location(30, 2, 1.0), carla.Vector3D(), 50.0))
        through = world.cast_ray(carla.Location(20, 2, 5.0), carla.Location(20, 2, -5.0))
        answer["through"] = [told(point) for point in through]
        side = world.cast_ray(carla.Location(30, 0, 3.0), carla.Location(30, 40, 3.0))
        answer["side"] = sorted({str(point.label) for point in side})
        answer["within"] = told(world.ground_projection(carla.Location(20, 2, 0.5), 10.0))
        """,
    )
    top = ["Car", 20.0, 2.0, pytest.approx(1.44)]
    assert answer == {
        "below": [
            ["Roads", 30.0, 2.0, 0.0],
            ["Sidewalks", 30.0, 7.5, 0.0],
            ["Terrain", 30.0, 12.0, 0.0],
            top,
            ["Pedestrians", 40.0, 7.5, pytest.approx(1.8)],
            None,
        ],
        "ahead": ["Car", pytest.approx(20.0 - 4.69 / 2, abs=0.01), 2.0, 1.0],
        "up": None,
        "nowhere": None,
        "through": [top, ["Roads", 20.0, 2.0, 0.0]],
        "side": ["Buildings"],
        "within": ["Roads", 20.0, 2.0, 0.0],
    }


def test_what_has_no_body_and_what_a_map_without_layers_answer(port: int) -> None:
    answer = run(
        port,
        """
        world = client.load_world("Town01")
        synchronous()
        car = world.spawn_actor(library.find("vehicle.tesla.model3"), at(20, 2))
        camera = world.spawn_actor(library.find("sensor.camera.rgb"), carla.Transform(), attach_to=car)
        world.tick()
        everybody = [car, camera, world.get_spectator()]
        answer["active"] = [actor.is_active and not actor.is_dormant for actor in everybody]
        answer["extent"] = [round(actor.bounding_box.extent.x, 3) for actor in everybody]
        world.load_map_layer(carla.MapLayer.All)
        world.unload_map_layer(carla.MapLayer.Buildings)
        answer["names"] = world.get_names_of_all_objects()
        """,
    )
    assert answer == {
        "active": [True, True, True],
        "extent": [pytest.approx(2.345), 0.0, 0.0],
        "names": [],
    }
