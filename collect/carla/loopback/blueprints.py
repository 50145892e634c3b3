"""The loopback server's blueprints: vehicles, walkers and sensors with CARLA's attributes and defaults."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from semore.collect.embedded.render.shapes import PALETTE
from semore.datasets.rollouts.schema import KIND_INDEX, KINDS, Kind, SemanticClass

_BOOL, _INT, _FLOAT, _STRING, _COLOUR = range(1, 6)  # carla.ActorAttributeType, one higher on the wire

_LENS: Final = {
    "lens_circle_falloff": "5.0", "lens_circle_multiplier": "0.0", "lens_k": "-1.0", "lens_kcube": "0.0",
    "lens_x_size": "0.08", "lens_y_size": "0.08",
}  # fmt: skip
_POST_PROCESS: Final = {
    "bloom_intensity": "0.675", "fov": "90.0", "fstop": "1.4", "iso": "100.0", "gamma": "2.2",
    "lens_flare_intensity": "0.1", "sensor_tick": "0.0", "shutter_speed": "200.0", "min_fstop": "1.2",
    "exposure_compensation": "0.0", "exposure_min_bright": "10.0", "exposure_max_bright": "12.0",
    "exposure_speed_up": "3.0", "exposure_speed_down": "1.0", "calibration_constant": "16.0",
    "focal_distance": "1000.0", "blur_amount": "1.0", "blur_radius": "0.0", "motion_blur_intensity": "0.45",
    "motion_blur_max_distortion": "0.35", "motion_blur_min_object_screen_size": "0.1", "slope": "0.88", "toe": "0.55",
    "shoulder": "0.26", "black_clip": "0.0", "white_clip": "0.04", "temp": "6500.0", "tint": "0.0",
    "chromatic_aberration_intensity": "0.0", "chromatic_aberration_offset": "0.0",
}  # fmt: skip
_COLOURS: Final = {",".join(str(round(255 * part)) for part in paint): paint for paint in PALETTE}

CAMERAS: Final = ("rgb", "depth", "semantic_segmentation", "instance_segmentation")


def kind_of(blueprint: str) -> Kind | None:
    """The kind of actor a blueprint id stands for; None for a sensor and others that have no body."""
    if blueprint.startswith("walker.pedestrian."):
        return KINDS[KIND_INDEX["pedestrian"]]
    return next((kind for kind in KINDS if kind.blueprint == blueprint), None)


def paint_of(blueprint: str, attributes: dict[str, str]) -> tuple[float, ...]:
    """Linear r, g, b of a body: a walker's shirt by its number, a vehicle by its `color`."""
    if blueprint.startswith("walker."):
        number = blueprint.rpartition(".")[2]
        return PALETTE[(int(number) - 1) % len(PALETTE) if number.isdigit() else 0]
    colour = attributes.get("color", "")
    if colour in _COLOURS:  # exactly the embedded world's, which 8 bits cannot say
        return _COLOURS[colour]
    parts = [part for part in colour.split(",") if part.isdigit()]
    return tuple(min(255, int(part)) / 255 for part in parts) if len(parts) == 3 else PALETTE[0]


def known(blueprint: str) -> bool:
    """Whether the library has the blueprint."""
    return any(blueprint == definition[1] for definition in library())


@cache
def library() -> tuple[Any, ...]:
    """Every definition as procedures carry it: [uid, id, tags, attributes]."""
    found = [(kind.blueprint, _vehicle(kind)) for kind in KINDS if kind.semantic is not SemanticClass.PEDESTRIAN]
    found += [(f"walker.pedestrian.{number:04d}", _walker()) for number in range(1, len(PALETTE) + 1)]
    found += [(f"sensor.camera.{kind}", _camera(kind)) for kind in CAMERAS]
    found.append(("sensor.other.collision", [_role("front")]))
    return tuple(
        [uid, name, ",".join(name.split(".")), attributes] for uid, (name, attributes) in enumerate(found, start=1)
    )


def _attribute(name: str, kind: int, value: str, choices: tuple[str, ...] = (), fixed: bool = False) -> list[Any]:
    """[id, type, value, recommended values, modifiable, restricted to the recommended]."""
    return [name, kind, value, list(choices), not fixed, False]


def _role(value: str) -> list[Any]:
    return _attribute("role_name", _STRING, value)


def _vehicle(kind: Kind) -> list[Any]:
    two_wheels = kind.semantic is SemanticClass.BICYCLE
    base = {SemanticClass.BICYCLE: "bicycle", SemanticClass.TRUCK: "truck"}.get(kind.semantic, "car")
    return [
        _attribute("color", _COLOUR, next(iter(_COLOURS)), tuple(_COLOURS)),
        _role("autopilot"),
        _attribute("sticky_control", _BOOL, "true"),
        _attribute("number_of_wheels", _INT, "2" if two_wheels else "4", fixed=True),
        _attribute("base_type", _STRING, base, fixed=True),
        _attribute("has_lights", _BOOL, "false" if two_wheels else "true", fixed=True),
        _attribute("generation", _INT, "2", fixed=True),
    ]


def _walker() -> list[Any]:
    return [
        _role("pedestrian"),
        _attribute("is_invincible", _BOOL, "true"),
        _attribute("speed", _FLOAT, "1.4", ("0.0", "1.4", "2.8")),
        _attribute("generation", _INT, "2", fixed=True),
        _attribute("age", _STRING, "adult", fixed=True),
    ]


def _camera(kind: str) -> list[Any]:
    size = [_attribute("image_size_x", _INT, "800"), _attribute("image_size_y", _INT, "600"), _role("front")]
    values = _LENS | (_POST_PROCESS if kind == "rgb" else {"fov": "90.0", "sensor_tick": "0.0"})
    numbers = [_attribute(name, _FLOAT, value) for name, value in values.items()]
    if kind == "rgb":
        numbers.append(_attribute("enable_postprocess_effects", _BOOL, "true"))
        numbers.append(_attribute("blade_count", _INT, "5"))
        numbers.append(_attribute("exposure_mode", _STRING, "histogram", ("manual", "histogram")))
    return size + numbers
