"""Train CRIS-tiny, the small segmenter of the embedded world: draw frames of train seeds, learn, score on test seeds.

The same command goes on where it was stopped, also by kill -9; with --evaluate_only it scores a weights file and writes
the model card's tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semore.annotate.settings import CrisTinySettings
from semore.datasets.atomic_io import digest16, digest_json, exclusive_lock
from semore.datasets.command_line import read_settings
from semore.datasets.cores import cores
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.datasets.run_command import run_command
from semore.datasets.settings import as_dict


@dataclass(frozen=True)
class CrisTinyTraining:
    """Configuration of the training of CRIS-tiny."""

    seed: int = 1
    """Seed of the weights and training batches; the frames come from the train split's seeds whatever it is."""
    frames: int = 10800
    """Frames to learn from, as many of each scenario under each weather."""
    test_frames: int = 1080
    """Frames to score on, from the test split's seeds."""
    steps: int = 4200
    """Updates."""
    batch: int = 8
    """Frames per update."""
    lr: float = 0.002
    """Highest learning rate."""
    save_every: int = 250
    """Updates between checkpoints."""
    workers: int = 2
    """Processes that draw frames. Training has two threads, whatever the number of cores."""
    data: str = "data/cris-tiny"
    """Frames and checkpoints are kept here; it can be deleted."""
    weights: str = ""
    """The weights file to write or, with evaluate_only, to score; default the one in the repository."""
    evaluate_only: bool = False
    """Do not train: score the weights file and print its tables."""
    card: bool = False
    """Also write the tables into the model card."""


def check(settings: CrisTinyTraining) -> None:
    """SemoreError for numbers out of range."""
    if min(settings.frames, settings.test_frames, settings.steps, settings.save_every, settings.workers) < 1:
        raise SemoreError("frames, test_frames, steps, save_every and workers must be at least 1")
    if settings.batch < 2 or settings.batch % 2:
        raise SemoreError(f"batch {settings.batch} must be even: each of the two threads takes half of it")


def train_to(settings: CrisTinyTraining, path: Path) -> None:
    """Draw what frames are missing, train, write the weights file."""
    from semore.annotate.oracle.rules import RULES_VERSION
    from semore.annotate.segment.cris_tiny.scenes import SCENES_VERSION, draw_scenes
    from semore.annotate.segment.cris_tiny.training import Schedule, train
    from semore.annotate.segment.cris_tiny.weights import write_weights
    from semore.collect.embedded.world import EmbeddedSimulator

    schedule = Schedule(settings.seed, settings.steps, settings.batch, settings.lr, settings.save_every)
    data = Path(settings.data)
    scenes = draw_scenes(data, "train", settings.frames, settings.workers)
    known = [*as_dict(schedule).values(), settings.frames, SCENES_VERSION, RULES_VERSION]
    checkpoint = data / f"checkpoint-{digest_json(known).hex()[:12]}.pt"
    with exclusive_lock(data / "lock", "training CRIS-tiny"):
        state = train(scenes, schedule, checkpoint)
    about = {
        "renderer": EmbeddedSimulator.renderer_version,
        "simulator": EmbeddedSimulator.version,
        "rules": RULES_VERSION,
        "frames": len(scenes),
        **as_dict(schedule),
    }
    write_weights(path, state, about)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


def evaluate(settings: CrisTinyTraining, path: Path) -> None:
    """Print the tables of a weights file on frames of test seeds; into the card as well, when asked."""
    from semore.annotate.segment.cris_tiny.evaluation import score
    from semore.annotate.segment.cris_tiny.scenes import draw_scenes
    from semore.annotate.segment.cris_tiny.segmenter import CrisTinySegmenter
    from semore.annotate.segment.cris_tiny.tables import CARD, headline, tables, write_tables

    scenes = draw_scenes(Path(settings.data), "test", settings.test_frames, settings.workers)
    scores = score(CrisTinySegmenter(CrisTinySettings(str(path), "cpu")).find, scenes)
    text = tables(scores)
    if settings.evaluate_only:
        print(text)
    else:
        print("\n".join(f"{name}: {value:.3f}" for name, value in headline(scores).items()))
    if settings.card:
        write_tables(text)
        print(f"wrote the tables into {CARD}")


def main() -> None:
    settings = read_settings(CrisTinyTraining, "cris-tiny")
    check(settings)
    import torch  # it and the world take seconds: mistakes are told before

    from semore.annotate.segment.cris_tiny.weights import WEIGHTS

    path = Path(settings.weights) if settings.weights else WEIGHTS
    torch.set_num_threads(min(2, cores()))
    if not settings.evaluate_only:
        train_to(settings, path)
    evaluate(settings, path)
    print("a new weights file means new masks, hence a knowledge set of another name; described texts are kept")
    asked = {"knowledge": f"cris-tiny-{digest16(path.read_bytes()).hex()[:8]}", "cris_tiny.weights": settings.weights}
    print(f"next: {command('collect')} && {command('annotate', asked)}")


if __name__ == "__main__":
    run_command(main)
