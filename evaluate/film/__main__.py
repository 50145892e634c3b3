"""Films of the shipped policies on test episodes, without training or data (`make demo`).

One film for each scenario shows the camera, what the policy is shown, its mask, the truth and the motion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.datasets.progress import meter
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.datasets.run_command import run_command
from semore.datasets.settings import changed
from semore.evaluate.checkpoints import FOLDER, Card, open_shipped, shipped_scenarios


@dataclass(frozen=True)
class DemoSettings:
    """Which policies to watch, and where the films go."""

    scenarios: tuple[str, ...] = ()
    """Scenarios; default all that have a checkpoint."""
    seed: int = -1
    """Test seed to drive, 2,000,000 and up; −1: the eventful one that the checkpoint's card names."""
    folder: str = FOLDER
    """Folder of the checkpoints."""
    out: str = "demo"
    """Folder of the films."""
    images: str = ""
    """Also write demo-<scenario>.gif into this folder: the most eventful seconds, for a web page."""


def check(settings: DemoSettings) -> None:
    """SemoreError naming the first setting that makes no sense."""
    test = SEED_SPLITS["test"]
    if settings.seed != -1 and settings.seed not in test:
        raise SemoreError(f"seed {settings.seed} is no test seed; give {test.start} to {test.stop - 1}, or -1")


def main() -> None:
    settings = read_settings(DemoSettings, "demo")
    check(settings)
    folder = Path(settings.folder)
    scenarios = settings.scenarios or tuple(shipped_scenarios(folder))
    if not scenarios:
        raise SemoreError(f"{folder} holds no checkpoint; `python -m study.publish runs/<run>` makes one")
    every = [open_shipped(folder, scenario) for scenario in scenarios]
    import torch  # it and what draws take seconds: mistakes are told before

    from semore.evaluate.film import demo
    from semore.evaluate.film.showcase import Showcase

    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    lines = []
    with meter("demo", len(every), "films") as progress:
        for shipped in every:
            seed = settings.seed if settings.seed >= 0 else shipped.card.demo_seed
            moments = demo.watch(shipped, seed)
            showcase = Showcase(moments, shipped.card, seed)
            path = Path(settings.out) / f"{shipped.card.scenario}-{seed}.mp4"
            demo.film(showcase, moments, path)
            if settings.images:
                demo.animate(showcase, moments, Path(settings.images) / f"demo-{shipped.card.scenario}.gif")
            lines.append(demo.told(shipped, seed, moments, path))
            progress.advance(1, shipped.card.scenario)
    print("\n".join(lines))
    card = every[0].card
    another = changed(settings) | {"scenarios": (card.scenario,), "seed": card.demo_seed + 1}
    print(f"another episode: `{command('demo', another)}`")
    print(f"next: {train_such(card)}")


def train_such(card: Card) -> str:
    """The commands that train such a policy on this machine."""
    names = {"preset": card.preset, "scenario": card.scenario}
    return f"{command(('collect', 'annotate'), names)} && {command('train', names | {'method': card.method})}"


if __name__ == "__main__":
    run_command(main)
