"""Stage 1: drive a world and record what the camera saw, as rollouts in Zarr.

Importing this package registers `semore/JayWalk-v0`, `semore/HighBeam-v0` and `semore/HighWay-v0` with Gymnasium.
"""

if not __name__.startswith("semore."):
    raise ImportError("this folder is the package semore.collect: import that, and install it with `pip install -e .`")

from semore.extras import require

require("collect")

import gymnasium  # noqa: E402
from gymnasium.envs.registration import WrapperSpec  # noqa: E402

for _name in ("JayWalk", "HighBeam", "HighWay"):
    if f"semore/{_name}-v0" not in gymnasium.registry:
        # No TimeLimit wrapper: it would count decisions where the limit counts simulator steps (design.md §7.9).
        # Whoever asks for one has its limit made the environment's own.
        gymnasium.register(
            f"semore/{_name}-v0",
            entry_point="semore.collect.env:DrivingEnv",
            additional_wrappers=(WrapperSpec("EndAtLimit", "semore.collect.time_limit:EndAtLimit", {}),),
            kwargs={"scenario": _name},
        )
