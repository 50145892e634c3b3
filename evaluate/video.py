"""An mp4 of one test episode: the camera, H_ka from the student's mask laid over it, speed and control."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from collect.behaviour import Action, load_policy
from collect.driving import Info
from collect.episodes import drive
from datasets.files import atomic_file
from datasets.schema import EGO_COLUMN
from evaluate.episodes import RunCourse

SCALE = 4
FPS = 10


def film(course: RunCourse, seed: int, path: Path) -> int:
    """Drive `seed` with the trained policy and write an mp4; returns the number of pictures."""
    policy = load_policy(course.run)
    (env,) = course.envs(1)
    pictures: list[NDArray[np.uint8]] = []

    def begin(*_: Any) -> None:
        pictures.clear()  # of an attempt whose simulator was lost

    def watch(_: int, observation: NDArray[np.uint8], action: Action | None, info: Info) -> None:
        pictures.append(_picture(env.render(), policy.student_mask(observation[None])[0], action, info))

    with closing(env):
        list(drive([env], policy, [seed], begin, watch))
    with atomic_file(path) as temporary:
        film_path = temporary.with_suffix(".mp4")
        imageio.mimsave(film_path, pictures, fps=FPS, macro_block_size=16, quality=7)  # type: ignore[arg-type]
        film_path.replace(temporary)
    return len(pictures)


def _picture(
    rgb: NDArray[np.uint8], mask_gg: NDArray[np.float32], action: Action | None, info: Info
) -> NDArray[np.uint8]:
    """The frame left, the frame under the mask right, numbers below: (H, W, 3) uint8."""
    side = rgb.shape[0] * SCALE
    frame = Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC)
    heat = Image.fromarray((mask_gg * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)
    red = Image.new("RGB", (side, side), (255, 40, 30))
    overlaid = Image.composite(red, frame, heat.point(lambda value: value * 0.6))
    canvas = Image.new("RGB", (2 * side, side + 48), (18, 18, 22))
    canvas.paste(frame, (0, 0))
    canvas.paste(overlaid, (side, 0))
    ImageDraw.Draw(canvas).text((12, side + 14), _caption(action, info), fill=(235, 235, 235), font_size=18)
    return np.asarray(canvas)


def _caption(action: Action | None, info: Info) -> str:
    ego, metrics = info["ego"], info["metrics"]
    speed = float(np.hypot(ego[EGO_COLUMN["vx"]], ego[EGO_COLUMN["vy"]]))
    control = f"steer {action[0]:+.2f}  pedal {action[1]:+.2f}" if action is not None else f"end: {info['ending']}"
    return f"{speed:4.1f} m/s  {control}  reward {metrics['reward']:6.1f}  crash {metrics['crash_intensity']:5.0f} N·s"
