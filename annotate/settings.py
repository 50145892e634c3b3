"""The configuration of `annotate`: which producers, on which executor, and within which budget.

Plain values, so that the producers' recipe can travel into a knowledge set's manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.merge import Merge
from semore.datasets.names import DESCRIBER, SEGMENTER, knowledge_name, rollouts_path

BATCH: Final = 64
"""Frames handed to a producer at once."""

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class QwenSettings:
    """Qwen2-VL through transformers."""

    model: str = "Qwen/Qwen2-VL-7B-Instruct"
    """A model hub id, or a local folder."""
    revision: str = ""
    """Hub revision (commit, tag or branch); default as downloaded before, else the newest. A local folder is known by
    its files."""
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
    """CLIPSeg through transformers, with public weights."""

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
    """CRIS-tiny: the small segmenter of the embedded world, trained by `semore cris-tiny`."""

    weights: str = ""
    """A weights file; default the one in the repository."""
    device: Device = "auto"
    """auto: cuda when there is one."""
    batch: int = 32
    """Frames at once."""


@dataclass(frozen=True)
class ProducerSettings:
    """Describer, segmenter and judge, and the settings of each."""

    describer: str = DESCRIBER
    """Names the key objects of a frame: privileged (rules over the simulator's state), qwen2-vl, endpoint."""
    segmenter: str = SEGMENTER
    """Finds each phrase's pixels: cris-tiny (learnt on the embedded world), privileged (the simulator's instance
    image), cris, clipseg."""
    judge: str = ""
    """Says whether a recorded action is reasonable: privileged, qwen2-vl, endpoint, none; default the describer."""
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


@dataclass(frozen=True)
class ExecutorSettings:
    """On which executor annotating runs."""

    scheduler: str = "none"
    """none (this process), local (a Dask cluster on this machine), the address of a Dask scheduler (tcp://…), or the
    path of its scheduler file."""
    workers: int = 2
    """Worker processes of a local cluster, one thread each."""
    commit_seconds: float = 60.0
    """Longest work (s) that is committed at once and that a killed worker can lose; early on, 2% of the work so far."""
    patience: float = 300.0
    """Seconds to wait for a scheduler that went away, or for a first worker, before giving up."""
    performance_report: str = ""
    """With a scheduler: write Dask's performance report to this HTML file."""


@dataclass(frozen=True)
class Budget:
    """How much to annotate: at most one of the fields is set; with none, everything is annotated."""

    sample: int = 0
    """A pilot: annotate so many frames, spread, and report rate, forecast, failures and a contact sheet."""
    frames: int = 0
    """Annotate the first so many frames by priority: scene changes and spread first."""
    budget: float = 0.0
    """Minutes to spend on frames by priority. The pass records how many it came to; a later one fills in."""

    def __post_init__(self) -> None:
        if sum(value > 0 for value in (self.sample, self.frames, self.budget)) > 1:
            raise SemoreError("give only one of sample, frames and budget")
        if min(self.sample, self.frames, self.budget) < 0:
            raise SemoreError("sample, frames and budget cannot be negative")


@dataclass(frozen=True)
class AnnotateSettings(Budget, ExecutorSettings, ProducerSettings):
    """What to annotate, with which producers, on which executor, and into which knowledge set."""

    stage = "annotate"  # the section of presets that is read for it

    preset: str = "laptop"
    """A file of presets/ by name, or a path to a YAML file."""
    scenario: str = "JayWalk"
    """Names the rollouts folder when `rollouts` does not."""
    simulator: str = "embedded"
    """The world of the recordings, as in `collect`: part of the folder's default name."""
    data: str = "data"
    """Folder of all recorded data; the cache is <data>/knowledge, shared by all experiments."""
    rollouts: str = ""
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr; default <scenario>-<preset>."""
    knowledge: str = ""
    """Name of the knowledge set: what a training run refers to. Another describer, segmenter, judge or merge needs
    another name; what they have in common is still shared. Default: <describer>-<segmenter>."""
    merge: Merge = "max"
    """How phrase masks become H_ka: max, or mean (the public code's)."""
    batch: int = BATCH
    """Frames handed to a producer at once."""
    retry_failed: bool = True
    """Try again what failed before."""
    off_decisions: bool = False
    """Also annotate the frames between decisions, which no policy sees that decides as often as the recording did."""

    @property
    def folder(self) -> Path:
        """The rollouts folder."""
        return rollouts_path(self.data, self.rollouts, self.scenario, self.preset, self.simulator)

    @property
    def knowledge_set(self) -> str:
        """The knowledge set's name."""
        return self.knowledge or knowledge_name(self.describer, self.segmenter)
