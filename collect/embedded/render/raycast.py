"""The ray-caster: one pass gives colour, classes, actor ids and depth of a camera's view."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.ground import Ground
from semore.collect.embedded.render.lens_effects import add_glare, add_mist, add_rain
from semore.collect.embedded.render.ray_intersect import GROUND, SKY, Eye, cast_parts, make_rays
from semore.collect.embedded.render.shading import shade
from semore.collect.embedded.render.shadows import contact_shadow, sun_shadow
from semore.collect.embedded.render.sky import Atmosphere

RENDERER_VERSION: Final = "2"
"""Goes into every recording; raise it with any change that alters a picture."""

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
_F1: Final = np.float32(1.0)
_SKY_DEPTH: Final = np.float32(1e6)
_UMBRA: Final = 0.22  # share of sun and open sky that reaches the ground in a sharp shadow


@kernel
def render(
    size: int, eye: Eye, ground: Ground, air: Atmosphere, parts: Singles, tags: NDArray[np.int32],
    casters: NDArray[np.int32], blobs: Floats, lights: Floats, glares: Floats, mists: Floats, tick: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16], Singles]:  # fmt: skip
    """A picture of `size`² pixels: rgb (H,W,3), semantic (H,W), instance (H,W), depth (H,W) in m along the ray.

    parts (P, 17) as shapes.PART_FIELDS with tags (P, 2) instance and class; `casters`: rows of parts that throw a
    shadow; blobs, lights, glares and mists as view.py lists them; `tick` only moves the rain. Same arguments, same
    bytes."""
    depth = np.empty((size, size), np.float32)
    owner = np.empty((size, size), np.int32)
    rays = make_rays(size, eye)
    for v in range(size):
        down = rays.slope[v] < -1e-6
        depth[v, :] = np.float32(-eye.z / rays.slope[v]) if down else _SKY_DEPTH
        owner[v, :] = GROUND if down else SKY
    cast_parts(parts, eye, rays, depth, owner)

    shadow = np.ones((size, size), np.float32)
    for k in range(blobs.shape[0]):
        contact_shadow(blobs[k], eye, rays, owner, shadow)
    for k in range(casters.shape[0]):
        sun_shadow(parts[casters[k]], air.to_sun, eye, rays, owner, _UMBRA, shadow)
    rgb = np.empty((size, size, 3), np.uint8)
    semantic = np.empty((size, size), np.uint8)
    instance = np.empty((size, size), np.uint16)
    shade(eye, rays, ground, air, parts, tags, lights, depth, owner, shadow, rgb, semantic, instance)

    for k in range(mists.shape[0]):
        add_mist(mists[k], eye, air.horizon, depth, rgb)
    for k in range(glares.shape[0]):
        add_glare(glares[k], eye, air.extinction, depth, instance, rgb)
    if air.rain > 0.0:
        add_rain(air.rain, tick, min(1.0, 0.25 + air.horizon[2]), rgb)
    for v in range(size):
        rise = rays.slope[v] * rays.slope[v]
        for u in range(size):
            stretch = np.sqrt(rays.plan_x[u] * rays.plan_x[u] + rays.plan_y[u] * rays.plan_y[u] + rise)
            depth[v, u] *= _F1 if owner[v, u] == SKY else stretch
    return rgb, semantic, instance, depth
