"""The cameras on the ego. Their pictures are matched to simulator steps by frame id."""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue
from typing import Any, Final

import carla
import numpy as np
from numpy.typing import NDArray

from semore.collect.camera import AHEAD, FIELD_OF_VIEW, HEIGHT
from semore.collect.carla.session import Session
from semore.collect.simulator import EpisodeLost
from semore.datasets.errors import SemoreError

PLACE: Final = (AHEAD, 0.0, HEIGHT)
"""Place of the cameras in m: ahead of the ego's origin, to its right, above it (method.md §2.3)."""
POST_PROCESS: Final = {
    "enable_postprocess_effects": "true",
    "exposure_max_bright": "20.0",
    "exposure_min_bright": "12.0",
    "blur_amount": "1.0",
    "motion_blur_intensity": "1.0",
    "motion_blur_max_distortion": "0.8",
    "motion_blur_min_object_screen_size": "0.4",
    "exposure_speed_up": "3.0",
    "exposure_speed_down": "1.0",
    "lens_flare_intensity": "0.2",
    "shutter_speed": "100.0",
}
"""Attributes of the colour camera (method.md §2.3)."""
_BLUEPRINTS: Final = {
    "rgb": "sensor.camera.rgb",
    "semantic": "sensor.camera.semantic_segmentation",
    "instance": "sensor.camera.instance_segmentation",
    "depth": "sensor.camera.depth",
}


class Camera:
    """One camera of `size`² pixels. It hands out the picture of the frame that is asked for."""

    def __init__(self, name: str, size: int, session: Session, ego: carla.Actor) -> None:
        blueprint = session.blueprint(_BLUEPRINTS[name])
        # A tick of 0 s is every frame; 0.05 would skip some by rounding.
        about = {"image_size_x": str(size), "image_size_y": str(size), "fov": str(FIELD_OF_VIEW), "sensor_tick": "0.0"}
        for key, value in (about | (POST_PROCESS if name == "rgb" else {})).items():
            if not blueprint.has_attribute(key):
                raise SemoreError(f"the server's {blueprint.id} has no attribute {key}; is it CARLA 0.9.16?")
            blueprint.set_attribute(key, value)
        self.name, self._size = name, size
        self._arrived: SimpleQueue[Any] = SimpleQueue()
        self.sensor: Any = session.spawn(blueprint, carla.Transform(carla.Location(*PLACE)), ego)
        self.sensor.listen(self._arrived.put)

    def take(self, frame: int, seconds: float, into: NDArray[np.uint8]) -> Any:
        """Wait for the picture of `frame`, copy it into `into` (H, W, 4) and return it, for its transform.

        EpisodeLost when it hasn't come after `seconds`, or one of a later frame has."""
        deadline, last = time.monotonic() + seconds, -1
        while last < frame:
            try:
                image = self._arrived.get(timeout=max(deadline - time.monotonic(), 1e-4))
            except Empty:
                told = f"its last was of frame {last}" if last >= 0 else "it sent nothing"
                raise EpisodeLost(
                    f"the {self.name} camera's picture of frame {frame} did not come within {seconds:.1f} s; {told}"
                ) from None
            last = image.frame
        if last > frame:
            raise EpisodeLost(f"the {self.name} camera sent frame {last} where {frame} was due")
        if (image.width, image.height) != (self._size, self._size):
            raise EpisodeLost(f"the {self.name} camera sent {image.width}×{image.height} pixels, not {self._size}²")
        into[:] = np.frombuffer(image.raw_data, np.uint8).reshape(into.shape)
        return image
