"""The optional parts of an installation, and an error that names the one that is missing.

`pip install semore` brings what reads and writes rollouts and knowledge; everything else is an extra of pyproject.toml.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from semore.datasets.errors import SemoreError

_DRIVING: Final = ("gymnasium", "numba", "msgpack", "psutil", "PIL")
_LEARNING: Final = (*_DRIVING, "torch", "pytorch_lightning", "tensorboard", "safetensors", "scipy")
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "collect": _DRIVING,
    "train": _LEARNING,
    "annotate": (
        *_DRIVING,
        *("torch", "transformers", "safetensors", "scipy", "matplotlib", "instant_clip_tokenizer", "cv2", "openai"),
        "huggingface_hub",
    ),
    "report": (*_LEARNING, "matplotlib", "pandas", "imageio", "imageio_ffmpeg", "jinja2", "markupsafe"),
    "cluster": ("dask", "distributed", "bokeh", "psutil"),
    "carla": ("carla",),
    "interop": ("minari", "gymnasium", "huggingface_hub"),
    "export": ("rerun", "pyarrow", "PIL"),
    "gpu": ("accelerate", "bitsandbytes"),
}
"""The modules that each extra brings. Of several extras with the same module the first is the one to recommend."""


class MissingExtra(SemoreError, ImportError):
    """A part of Semore was asked for whose packages are not installed."""


def missing(extra: str) -> list[str]:
    """Those modules of an extra that are not installed; none of them is imported."""
    return [module for module in EXTRAS[extra] if not _installed(module)]


def require(extra: str, *modules: str) -> None:
    """MissingExtra unless the modules (default: all of the extra) are installed."""
    lacking = [module for module in modules or EXTRAS[extra] if not _installed(module)]
    if lacking:
        raise MissingExtra(_message(lacking, extra))


def named(error: ModuleNotFoundError) -> MissingExtra | None:
    """What to say instead of an import's own error, if the module that it lacks belongs to an extra."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    return MissingExtra(_message([module], extra)) if extra and not _installed(module) else None


def _message(lacking: list[str], extra: str) -> str:
    what = f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not installed"
    return f"{what}; this part of Semore needs the extra {extra!r}: pip install 'semore[{extra}]'"


def _installed(module: str) -> bool:
    return sys.modules.get(module) is not None or find_spec(module) is not None
