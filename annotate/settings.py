"""Who annotates: the producers by the names users type, and the settings of each. Plain values, so that a recipe can
travel to a cluster's workers and into a knowledge set's manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class QwenSettings:
    """Qwen2-VL through transformers."""

    model: str = "Qwen/Qwen2-VL-7B-Instruct"
    """A model hub id, or a local folder."""
    revision: str = ""
    """Hub revision (commit, tag or branch); default the newest. A local folder is known by its files."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: as the checkpoint says."""
    device: Device = "auto"
    """auto: cuda when there is one."""
    quantisation: Literal["none", "nf4"] = "none"
    """nf4: 4-bit weights through bitsandbytes, about 7 GB for the 7B model (extra `gpu`; needs CUDA)."""
    batch: int = 8
    """Frames answered at once."""
    upscale: int = 448
    """Frames smaller than this are upscaled to this many pixels a side first: at 128 the model sees 25 tokens."""
    max_new_tokens: int = 64
    """Cap of a description; a verdict is capped at 4."""


@dataclass(frozen=True)
class EndpointSettings:
    """Any OpenAI-compatible server with a vision-language model, e.g. vLLM serving Qwen2-VL."""

    url: str = "http://127.0.0.1:8000/v1"
    """Base address, ending in /v1."""
    model: str = "Qwen/Qwen2-VL-7B-Instruct"
    """The model's name on that server."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; it may be unset for a server without one. Never stored or logged."""
    in_flight: int = 16
    """Requests under way at once."""
    retries: int = 5
    """Further tries after 429, 5xx, a time-out or a lost connection, with exponential back-off."""
    timeout: float = 60.0
    """Seconds for one request."""
    upscale: int = 448
    """As qwen.upscale."""
    max_new_tokens: int = 64
    """As qwen.max_new_tokens."""


@dataclass(frozen=True)
class CrisSettings:
    """CRIS-R50 (method.md §7)."""

    checkpoint: str = ""
    """An official checkpoint file: {"state_dict": …}, with or without `module.` before each key."""
    word_len: int = 17
    """Tokens per phrase: 17 as for RefCOCO, 22 for RefCOCOg."""
    device: Device = "auto"
    """auto: cuda when there is one."""
    precision: Precision = "fp32"
    """bf16: autocast."""
    frames: int = 8
    """Frames encoded at once."""
    phrases: int = 16
    """Phrases decoded at once."""


@dataclass(frozen=True)
class ClipSegSettings:
    """CLIPSeg through transformers: public weights behind the same seam."""

    model: str = "CIDAS/clipseg-rd64-refined"
    """A model hub id, or a local folder."""
    revision: str = ""
    """As qwen.revision."""
    device: Device = "auto"
    """auto: cuda when there is one."""
    precision: Precision = "fp32"
    """bf16: autocast."""
    batch: int = 8
    """Frame-phrase pairs segmented at once."""


@dataclass(frozen=True)
class CrisTinySettings:
    """CRIS-tiny: the small segmenter of the embedded world, trained by `make cris-tiny`."""

    weights: str = ""
    """A weights file; default the one in the repository."""
    device: Device = "auto"
    """auto: cuda when there is one."""
    batch: int = 32
    """Frames at once."""


@dataclass(frozen=True)
class ProducerSettings:
    """Describer, segmenter and judge, and what each needs to know."""

    describer: str = "privileged"
    """Names the key objects of a frame: privileged (rules over the simulator's state), qwen2-vl, endpoint."""
    segmenter: str = "cris-tiny"
    """Finds each phrase's pixels: cris-tiny (learnt on the embedded world), privileged (the simulator's instance
    image), cris, clipseg."""
    judge: str = ""
    """Says whether a recorded action is reasonable: privileged, qwen2-vl, endpoint, or none; default the describer's."""
    qwen: QwenSettings = field(default_factory=QwenSettings)
    """Qwen2-VL in this process."""
    endpoint: EndpointSettings = field(default_factory=EndpointSettings)
    """Qwen2-VL behind a server."""
    cris: CrisSettings = field(default_factory=CrisSettings)
    """CRIS."""
    clipseg: ClipSegSettings = field(default_factory=ClipSegSettings)
    """CLIPSeg."""
    cris_tiny: CrisTinySettings = field(default_factory=CrisTinySettings)
    """CRIS-tiny."""
