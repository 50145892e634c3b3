"""Stage 2: name and segment what matters in each recorded frame, once, into the knowledge cache."""

if not __name__.startswith("semore."):
    raise ImportError("this folder is the package semore.annotate: import that, and install it with `pip install -e .`")

from semore.extras import require

require("annotate", "torch", "safetensors")  # the rest by those parts that need it: training annotates too
