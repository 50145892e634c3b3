"""The true client against the loopback server."""

from __future__ import annotations

import pytest
from loopback_thread import serving
from true_client import run

from semore.collect.carla.loopback.faults import Fault


def test_the_world_of_a_client(port: int) -> None:
    answer = run(
        port,
        """
        answer["versions"] = [client.get_client_version(), client.get_server_version()]
        answer["maps"] = client.get_available_maps()
        world = client.load_world("Town04")
        answer["map"] = world.get_map().name
        lane = world.get_map().get_waypoint_xodr(45, -2, 100.0)
        answer["lane"] = [lane.lane_width, str(lane.lane_type)]
        world = client.load_world("Town01")
        answer["points"] = len(world.get_map().get_spawn_points())
        synchronous()
        weather = carla.WeatherParameters(cloudiness=30, sun_altitude_angle=-90, fog_density=20, wetness=5)
        world.set_weather(weather)
        back = world.get_weather()
        answer["weather"] = [back.cloudiness, back.sun_altitude_angle, back.fog_density, back.wetness]
        car = world.spawn_actor(library.find("vehicle.tesla.model3"), at(20, 2))
        answer["blocked"] = world.try_spawn_actor(library.find("vehicle.audi.tt"), at(21, 2)) is None
        car.set_light_state(carla.VehicleLightState(carla.VehicleLightState.LowBeam))
        answer["lights"] = int(car.get_light_state())
        physics = car.get_physics_control()
        physics.gear_switch_time = 0.01
        car.apply_physics_control(physics)
        answer["gears"], answer["wheels"] = car.get_physics_control().gear_switch_time, len(physics.wheels)
        world.enable_environment_objects({one.id for one in world.get_environment_objects()}, False)
        answer["frames"] = world.tick() - world.tick()
        box = car.bounding_box
        answer["box"] = [box.extent.x, box.location.z]
        car.apply_control(carla.VehicleControl(throttle=1.0, steer=0.1))
        for _ in range(20):
            world.tick()
        answer["speed"], answer["throttle"] = car.get_velocity().length(), car.get_control().throttle
        answer["turns"] = car.get_angular_velocity().z >= 0.0 and car.get_transform().rotation.yaw > 1.0
        answer["accelerates"] = car.get_acceleration().x
        answer["destroyed"] = car.destroy()
        world.tick()
        answer["left"] = [actor.type_id for actor in world.get_actors()]
        """,
    )
    assert answer == {
        "versions": ["0.9.16", "0.9.16"],
        "maps": ["/Game/Carla/Maps/Town01", "/Game/Carla/Maps/Town04"],
        "map": "Carla/Maps/Town04",
        "lane": [3.5, "Driving"],
        "points": 70,
        "weather": [30.0, -90.0, 20.0, 5.0],
        "blocked": True,
        "lights": 2,
        "gears": pytest.approx(0.01),
        "wheels": 4,
        "frames": -1,
        "box": [pytest.approx(2.345), pytest.approx(0.72)],
        "speed": pytest.approx(4.9, abs=0.3),
        "throttle": 1.0,
        "turns": True,
        "accelerates": pytest.approx(4.9, abs=0.5),
        "destroyed": True,
        "left": ["spectator"],
    }


def test_traffic_walkers_batches_and_hits(port: int) -> None:
    answer = run(
        port,
        """
        world = client.load_world("Town01")
        synchronous()
        manager = client.get_trafficmanager(8000)
        manager.set_synchronous_mode(True)
        manager.set_random_device_seed(1)
        manager.set_global_distance_to_leading_vehicle(2.0)
        ego = world.spawn_actor(library.find("vehicle.tesla.model3"), at(20, 2))
        audi = library.find("vehicle.audi.tt")
        car = world.spawn_actor(audi, at(60, 2))
        car.set_autopilot(True, 8000)
        manager.vehicle_percentage_speed_difference(car, -60.0)
        manager.auto_lane_change(car, True)
        manager.ignore_lights_percentage(car, 100.0)
        manager.ignore_signs_percentage(car, 100.0)
        there = carla.command.SpawnActor(audi, at(110, -2, 180)).then(
            carla.command.SetAutopilot(carla.command.FutureActor, True, 8000))
        responses = client.apply_batch_sync([there, carla.command.DestroyActor(9999)], True)
        answer["errors"] = [response.error[:20] for response in responses]
        came = world.get_actor(responses[0].actor_id)
        walker = world.spawn_actor(library.find("walker.pedestrian.0003"), at(40, 7.5, z=1.0))
        walker.apply_control(carla.WalkerControl(carla.Vector3D(0, -1, 0), 2.0))
        world.tick()
        bump, hits = attach("sensor.other.collision", ego)
        for _ in range(55):
            world.tick()
        answer["walker"] = [round(walker.get_location().y, 3), round(walker.get_velocity().y, 3)]
        answer["car"], answer["came"] = car.get_velocity().x > 5.0, came.get_velocity().x < -5.0
        walker.apply_control(carla.WalkerControl())
        ego.apply_control(carla.VehicleControl(throttle=1.0))
        for _ in range(60):
            world.tick()
        hit = hits.get(timeout=5)
        answer["hit"] = [hit.actor.id == ego.id, hit.other_actor.type_id, hit.normal_impulse.x < -300.0]
        answer["down"] = walker.get_transform().rotation.roll
        bump.stop()
        client.apply_batch_sync([carla.command.DestroyActor(one) for one in (bump, walker, car, came, ego)], True)
        answer["left"] = len(world.get_actors())
        """,
    )
    assert answer == {
        "errors": ["", "unable to find actor"],
        "walker": [1.9, -2.0],
        "car": True,
        "came": True,
        "hit": [True, "walker.pedestrian.0003", True],
        "down": 90.0,
        "left": 1,
    }


def test_pictures_carry_the_ticks_frame(port: int) -> None:
    answer = run(
        port,
        """
        world = client.load_world("Town01")
        synchronous()
        car = world.spawn_actor(library.find("vehicle.tesla.model3"), at(20, 2))
        size = {"image_size_x": 32, "image_size_y": 32, "fov": 60, "sensor_tick": 0.05}
        look = dict(exposure_max_bright=20, exposure_min_bright=12, blur_amount=1, motion_blur_intensity=1,
                    motion_blur_max_distortion=0.8, motion_blur_min_object_screen_size=0.4, exposure_speed_up=3,
                    exposure_speed_down=1, lens_flare_intensity=0.2, shutter_speed=100, enable_postprocess_effects=True)
        kinds = ["rgb", "semantic_segmentation", "instance_segmentation", "depth"]
        cameras = [attach("sensor.camera." + kind, car, **size, **(look if kind == "rgb" else {})) for kind in kinds]
        same = True
        for _ in range(10):
            frame = world.tick()
            images = [received.get(timeout=5) for _, received in cameras]
            same = same and {image.frame for image in images} == {frame}
        answer["same"] = same
        answer["sizes"] = [[image.width, image.height, image.fov, len(image.raw_data)] for image in images]
        where = images[0].transform
        answer["where"] = [where.location.x, where.location.y, where.location.z, where.rotation.yaw]
        tags = {images[1].raw_data[at] for at in range(2, 4096, 4)}
        answer["road"] = int(carla.CityObjectLabel.Roads) in tags and int(carla.CityObjectLabel.Buildings) in tags
        images[1].convert(carla.ColorConverter.CityScapesPalette)
        answer["violet"] = list(images[1].raw_data[32 * 4 * 31 + 64:][:3])
        for camera, _ in cameras:
            camera.destroy()
        """,
    )
    assert answer == {
        "same": True,
        "sizes": [[32, 32, 60.0, 4096]] * 4,
        "where": [21.0, 2.0, 1.5, 0.0],
        "road": True,
        "violet": [128, 64, 128],
    }


def test_a_client_outlives_a_server_that_hangs_up() -> None:
    with serving(Fault("drop", after=4)) as port:  # the client itself asks for a tick when it turns synchronous
        answer = run(
            port,
            """
            client.set_timeout(1.0)
            synchronous()
            world.tick(), world.tick()
            try:
                world.tick(1.0)
            except RuntimeError as error:
                answer["error"] = str(error)
            answer["again"] = carla.Client("127.0.0.1", int(sys.argv[1])).get_server_version()
            """,
        )
    assert answer["error"]
    assert answer["again"] == "0.9.16"


def test_a_lying_camera_can_be_noticed() -> None:
    with serving(Fault("wrong-frame", after=1)) as port:
        answer = run(
            port,
            """
            synchronous()
            car = world.spawn_actor(library.find("vehicle.tesla.model3"), at(20, 2))
            camera, received = attach("sensor.camera.rgb", car, image_size_x=16, image_size_y=16, fov=60)
            answer["late"] = world.tick() - received.get(timeout=5).frame
            """,
        )
    assert answer == {"late": 1}
