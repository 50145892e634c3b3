"""Scratch memory for one row of the picture: all per-pixel quantities in one flat buffer.

Side by side at constant distances the compiler knows that they never overlap, and turns the loops that fill them into
vector code; the same quantities in arrays of their own stay scalar."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.ray_intersect import Rays

Singles = NDArray[np.float32]

WIDEST: Final = 2064
"""Pixels a row may have."""

PLAN_X: Final = 0
"""Plan direction of the column's ray; the next: PLAN_Y."""
PLAN_Y: Final = 1 * WIDEST
ROAD_S: Final = 2 * WIDEST
"""Road coordinates of the ground there, m; the next: ROAD_T."""
ROAD_T: Final = 3 * WIDEST
RED: Final = 4 * WIDEST
"""Colour, 1 = white; the next two: GREEN, BLUE."""
GREEN: Final = 5 * WIDEST
BLUE: Final = 6 * WIDEST
LIGHT: Final = 7 * WIDEST
"""Lamp light received."""
LABEL: Final = 8 * WIDEST
"""Semantic class, a whole number."""
BEHIND: Final = 9 * WIDEST
"""Distance along the view direction (m) of the last thing seen further up in the column; 0 for none."""
AIR_RED: Final = 10 * WIDEST
"""Colour of the haze, that of the sky at the horizon; the next two: AIR_GREEN, AIR_BLUE."""
AIR_GREEN: Final = 11 * WIDEST
AIR_BLUE: Final = 12 * WIDEST
SUNLIT: Final = 13 * WIDEST
"""Share of sun and open sky that the ground gets."""
FINE: Final = 14 * WIDEST
"""Fine and broad grain of the ground, around 0; the next: BROAD."""
BROAD: Final = 15 * WIDEST
_FIELDS: Final = 16


@kernel
def make_line(rays: Rays) -> Singles:
    """A buffer of all fields with the rays' plan directions filled in; the fields named above are offsets into it."""
    line = np.empty(_FIELDS * WIDEST, np.float32)
    for u in range(rays.plan_x.shape[0]):
        line[PLAN_X + u], line[PLAN_Y + u] = rays.plan_x[u], rays.plan_y[u]
        line[BEHIND + u] = np.float32(0.0)
    return line
