"""Stage 3: the Semore agent, trained on recorded frames and their knowledge, refreshed online."""

if not __name__.startswith("semore."):
    raise ImportError("this folder is the package semore.train: import that, and install it with `pip install -e .`")

from semore.extras import require

require("train")
