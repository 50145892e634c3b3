"""Training configuration: the run, its data, the agent, the replay filter and the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from semore.annotate.settings import ExecutorSettings
from semore.collect.camera import Sight
from semore.collect.carla.settings import CarlaSettings
from semore.collect.scenarios import scenario_and_weather
from semore.collect.simulators import SIMULATORS
from semore.datasets.errors import SemoreError
from semore.datasets.frame_view import View
from semore.datasets.knowledge.choice import chosen_set
from semore.datasets.mask_variants import MASKS
from semore.datasets.names import rollouts_path, run_path, scenario_name
from semore.datasets.presets import flat
from semore.datasets.reward import IMPULSE_WEIGHT
from semore.datasets.settings import as_dict
from semore.train.admission import ADMISSIONS, ReplaySettings
from semore.train.agent_settings import AUXILIARIES, AgentSettings, check
from semore.train.encoder_settings import geometry
from semore.train.schedule import ScheduleSettings

IMITATED: Final = ("recorded", "advised")
FREE_TO_CHANGE: Final = (
    "preset", "data", "runs", "run", "threads", "actors", "device", "parallel", "scheduler", "compile", "wandb",
    "carla", "capture",
)  # fmt: skip
"""Settings that may differ when a run is resumed."""
LISTED: Final = "agent.auxiliaries"
ALL_BEFORE: Final = ("transition", "reward", "semantic", "contrast")
"""The auxiliaries of the versions in which methods did not list theirs."""
FORGOTTEN: Final = {"schedule.refresh_waits": True}
"""Settings of earlier versions by dotted name, and their defaults."""


@dataclass(frozen=True)
class TrainSettings:
    """One training run."""

    stage = "train"  # the section of presets that is read for it

    preset: str = "laptop"
    """A file of presets/ by name, or a path to a YAML file."""
    method: str = "semore"
    """semore, or a rival by its file in presets/methods: sac, deepmdp, drq, curl, sac-segmentation, cloning."""
    scenario: str = "JayWalk"
    """Scenario the policy drives in when it refreshes and validates."""
    weather: str = ""
    """Weather preset; default the scenario's own."""
    simulator: str = "embedded"
    """The world to drive in: embedded, or carla."""
    data: str = "data"
    """Folder of all recorded data."""
    rollouts: str = ""
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr; default <scenario>-<preset>."""
    knowledge: str = ""
    """Name of the knowledge set; default the one that `annotate` makes, or the only one."""
    masks: str = "plain"
    """plain, or for counterfactuals shuffled, empty or inverted: what H_ka is replaced with wherever it is read."""
    runs: str = "runs"
    """Folder of all runs."""
    run: str = ""
    """Name of the run; default <scenario>-<preset>, with method and simulator behind where they are not the
    default ones."""
    seed: int = 1
    """Training seed."""
    seeds: tuple[int, ...] = ()
    """Train these seeds instead, several at once, each as a run of its own: <run>-seed<seed>."""
    parallel: int = 0
    """With seeds: runs at once; 0: as many as there are GPUs, or cores for the `threads` and `actors` of each."""
    scheduler: str = "none"
    """none, local, tcp://... or a scheduler file: a Dask cluster that annotates refreshes and trains `seeds`."""
    reward: str = "published"
    """published, or safety (impulses weigh ten times)."""
    frame_skip: int = 2
    """Simulator steps per decision."""
    imitate: str = "advised"
    """What the cloning term aims at: recorded (what the rule-based driver did where it drove, noise and all), or
    advised (what it would do without noise, at every decision, whoever drove: as DAgger)."""
    advice_pixels: float = 0.0
    """With advised: that driver sees only who is in the camera's picture, and stands at least so many pixels tall at
    the network's size (0: everybody). At 64² that is, for 4 to 7, a person within 25 to 14 m, a car within 20 to 11."""
    grey: bool = False
    """Show the network grey pictures only, in training and when it acts: what can be learnt without eyes."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 2
    """CPU threads; driving takes one of them, whatever their number."""
    actors: int = 0
    """Processes that drive and annotate beside learning, on one thread each (0: it stands still meanwhile). With the
    same `schedule` the weights are the same, however many there are."""
    compile: bool = False
    """Compile the encoder (torch.compile: minutes at the start, needs a C++ compiler)."""
    capture: bool = True
    """On a GPU, record updates as CUDA graphs and replay them; nothing on a CPU."""
    wandb: bool = False
    """Log to Weights & Biases as well (pip install wandb)."""
    carla: CarlaSettings = field(default_factory=CarlaSettings)
    """CARLA servers; only looked at with simulator carla."""
    agent: AgentSettings = field(default_factory=AgentSettings)
    """The agent."""
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    """The replay buffer."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """The schedule."""

    def resolved(self) -> TrainSettings:
        """The same with what follows from the rest spelt out: the scenario's spelling and the knowledge set."""
        knowledge = chosen_set(self.data, self.knowledge, self.preset)
        return replace(self, scenario=scenario_name(self.scenario), knowledge=knowledge)

    @property
    def rollouts_folder(self) -> Path:
        """The folder of the recorded episodes."""
        return rollouts_path(self.data, self.rollouts, self.scenario, self.preset, self.simulator)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return run_path(self.runs, self.run, self.scenario, self.preset, self.method, self.simulator)

    @property
    def executor(self) -> ExecutorSettings:
        """On which executor refreshes are annotated."""
        return ExecutorSettings(self.scheduler)

    @property
    def uses_knowledge(self) -> bool:
        """Whether masks or verdicts reach the network, its losses or its buffer at all."""
        learns = "semantic" in self.agent.auxiliary_weights
        return self.agent.encoder.reads_mask or learns or self.replay.admission != "off"

    @property
    def asks_driver(self) -> bool:
        """Whether anything aims at what the rule-based driver would do."""
        imitates = self.schedule.cloning > 0 or self.agent.objective == "cloning"
        return imitates and self.imitate == "advised"

    @property
    def sight(self) -> Sight | None:
        """What the rule-based driver sees when it advises; None: everybody."""
        return Sight(self.agent.encoder.size, self.advice_pixels) if self.advice_pixels else None

    @property
    def view(self) -> View:
        """How the pool looks at the recordings."""
        agent, encoder = self.agent, self.agent.encoder
        return View(
            encoder.size, encoder.mask_resolution, self.frame_skip, self.reward, self.masks, self.seed, self.grey,
            agent.n_step, agent.gamma,
        )  # fmt: skip

    def validate(self) -> None:
        """SemoreError naming the first setting that makes no sense."""
        scenario_and_weather(self.scenario, self.weather)
        for name, value, choices in (
            ("simulator", self.simulator, SIMULATORS),
            ("reward", self.reward, tuple(IMPULSE_WEIGHT)),
            ("device", self.device, ("auto", "cpu", "cuda")),
            ("masks", self.masks, MASKS),
            ("imitate", self.imitate, IMITATED),
            ("replay.admission", self.replay.admission, ADMISSIONS),
        ):
            if value not in choices:
                raise SemoreError(f"unknown {name} {value!r}; choose one of {', '.join(choices)}")
        geometry(self.agent.encoder.size)
        check(self.agent)
        for name in ("averaging", "refresh_noise_memory"):
            if not 0.0 <= (share := getattr(self.schedule, name)) < 1.0:
                raise SemoreError(f"schedule.{name} is {share}; it must be at least 0 and below 1")
        if self.schedule.refresh_every and self.schedule.delay >= self.schedule.updates:
            raise SemoreError(
                f"schedule.delay is {self.schedule.delay}, and there are {self.schedule.updates} updates: nothing "
                "that is driven would count; lower it, or choose --schedule.refresh_every 0"
            )
        for name, number in (
            ("schedule.refresh_spread", self.schedule.refresh_spread),
            ("schedule.refresh_decisions", self.schedule.refresh_decisions), ("advice_pixels", self.advice_pixels),
        ):  # fmt: skip
            if number < 0:
                raise SemoreError(f"{name} is {number}; it must be at least 0")
        for name in ("updates", "batch", "log_every", "save_every", "refresh_episodes", "validate_episodes", "shares"):
            if getattr(self.schedule, name) < 1:
                raise SemoreError(f"schedule.{name} is {getattr(self.schedule, name)}; it must be at least 1")
        self._validate_actors()

    def _validate_actors(self) -> None:
        schedule, servers = self.schedule, self.carla.servers
        for name, value in (("schedule.delay", schedule.delay), ("actors", self.actors)):
            if value < 0:
                raise SemoreError(f"{name} is {value}; it must be at least 0")
        if 0 < schedule.refresh_frames < schedule.shares:
            raise SemoreError(
                f"schedule.refresh_frames is {schedule.refresh_frames}, fewer than the {schedule.shares} shares that "
                "they are dealt out to; lower --schedule.shares, or raise it (0: all decisions)"
            )
        each = max(servers // schedule.shares, 1)
        if self.simulator == "carla" and self.actors * each > servers:
            raise SemoreError(
                f"{self.actors} actors would drive on {each} CARLA servers each, and there are {servers}; deal them "
                f"out with --schedule.shares {self.actors}, or lower --actors, or raise --carla.servers"
            )


def started_with(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters in the `identity` that a run was started with, perhaps by an earlier version: what that did
    not know is at its default, and what this one has forgotten is left out where it was at its default. Before methods
    listed their auxiliaries, all were listed, and a weight of 0 left one out."""
    known = {name: value for name, value in identity.items() if (name, value) not in FORGOTTEN.items()}
    return hyperparameters(TrainSettings()) | {LISTED: list(ALL_BEFORE)} | known


def what_counts(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The same without weights that mean nothing, in whatever order auxiliaries are listed."""
    weights = {name: parameters[f"agent.{name}_weight"] for name in AUXILIARIES if name in parameters[LISTED]}
    rest = {
        name: parameters[name] for name in parameters if name not in {f"agent.{each}_weight" for each in AUXILIARIES}
    }
    learnt = {f"agent.{name}_weight": weight for name, weight in weights.items() if weight}
    return rest | learnt | {LISTED: [name for name in weights if weights[name]]}


def hyperparameters(settings: TrainSettings) -> dict[str, Any]:
    """The settings that tell one result from another, by dotted name."""
    return {key: value for key, value in flat(as_dict(settings)) if key.partition(".")[0] not in FREE_TO_CHANGE}
