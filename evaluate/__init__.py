"""Stage 4: drive the test seeds and report episode reward, distance and crash intensity beside blind rows."""

if not __name__.startswith("semore."):
    raise ImportError("this folder is the package semore.evaluate: import that, and install it with `pip install -e .`")

from semore.extras import require

require("report")
