"""What is driven counts after a fixed number of updates, whoever drives; and actors that die, fail and are stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from psutil import Process, pid_exists
from tiny_run import TINY, Crash, asked, assert_same_run, interrupted, know, make_data, metrics, run_whole

from semore.annotate.settings import ExecutorSettings
from semore.collect.env import DrivingEnv
from semore.collect.simulator import EpisodeLost
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.store import Rollouts
from semore.train import actor as actor_module
from semore.train.actor import Actor, Brief, Job, in_shares, snapshot
from semore.train.actor_process import ActorProcess
from semore.train.agent import Agent
from semore.train.checkpoint import read_checkpoint
from semore.train.crew import LoneCrew, ProcessCrew
from semore.train.learner import PolicyNetwork
from semore.train.metrics import read_metrics
from semore.train.online import World
from semore.train.run import train
from semore.train.settings import TrainSettings
from semore.train.validation import measured

pytestmark = [
    pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning"),
    pytest.mark.usefixtures("short_runs", "no_export"),
]

DELAYED: dict[str, Any] = {
    # Refreshes after updates 10 and 20 count after 16 and 26; that of 30 is under way when 24 … 36 are saved.
    "schedule": replace(TINY.schedule, refresh_episodes=2, refresh_frames=9, delay=6, shares=2, save_every=12),
    "replay": replace(TINY.replay, pool_frames=140, filter_steps=400),
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def data(recorded, tmp_path) -> Path:
    """A copy, so that no other run has annotated what this one will record."""
    return Path(shutil.copytree(recorded, tmp_path / "data"))


@pytest.fixture(scope="module")
def whole(recorded, tmp_path_factory) -> tuple[TrainSettings, dict[str, Any]]:
    """A run nobody disturbed, which drives itself."""
    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(recorded, root / "data")
    return run_whole(asked(root / "data", root, **DELAYED))


def test_what_is_driven_counts_after_the_delay_and_is_logged_under_its_update(whole):
    settings, summary = whole
    rows = list(read_metrics(settings.folder / "metrics.csv"))
    value = {(update, name): number for update, name, number in rows}
    assert len(value) == len(rows)
    drives = {name: [update for update, each, _ in rows if each == name] for _, name, _ in rows}
    assert drives["refresh/reward"] == [10, 20, 30]
    assert drives["validation/reward"] == drives["health/student_auc"] == [15, 30, 40]
    assert [rows.index((20, "refresh/annotated", 9.0)) > rows.index((24, "loss/q", value[24, "loss/q"]))] == [True]
    sizes = {update: value[update, "replay/offered"] for update in range(4, 41, 4)}
    grown = [update for update in sizes if update > 4 and sizes[update] > sizes[update - 4]]
    assert grown == [16, 28, 36]  # the entries after 16, 26 and 36 updates
    assert value[16, "replay/staleness"] > 0
    assert summary["best_update"] in (15, 30, 40)
    assert all(value[update, "refresh/annotated"] == 9 for update in (10, 20, 30))
    assert sum(value.get((update, "speed/waited_s"), 0.0) for update in sizes) > 0


def test_a_refresh_that_no_update_would_see_is_left_out(whole):
    schedule = whole[0].schedule
    assert [update for update in range(1, 41) if replace(schedule, delay=10).refreshes(update)] == [10, 20]
    assert [update for update in range(1, 41) if replace(schedule, delay=9).refreshes(update)] == [10, 20, 30]
    eventful = [update for update in range(1, 41) if replace(schedule, delay=6).eventful(update)]
    assert eventful == [10, 15, 16, 20, 21, 26, 30, 36, 40]


def test_episodes_are_dealt_out_in_order_with_their_frames():
    assert in_shares(range(5), 7, 2) == [(range(2), 3), (range(2, 5), 4)]
    assert in_shares(range(5), 0, 1) == [(range(5), 0)]
    assert in_shares(range(2), 0, 4) == [(range(1), 0), (range(1, 2), 0)]


@pytest.mark.parametrize(
    ("update", "others"),
    [
        pytest.param(23, True, id="with a refresh out, and others annotating"),
        pytest.param(18, False, id="with a validation out", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_ends_while_something_is_out_goes_on_to_the_same_weights(
    data, whole, tmp_path, monkeypatch, update, others
):
    settings, original = asked(data, tmp_path, **DELAYED), Agent.update

    def ending(self: Agent, *args: Any, **kwargs: Any) -> Any:
        if self.updates == update:
            raise Crash
        return original(self, *args, **kwargs)

    interrupted(settings, Agent, "update", ending)
    state = read_checkpoint(settings.folder / "last.ckpt", {})
    out = state["refresh"]["pending"] + state["validation"]["pending"]
    assert [errand["update"] for errand in out] == [20 if others else 15]
    if others:
        know(data, settings.folder / "refresh.zarr", data / "rollouts" / "tiny.zarr", off_decisions=True)
    seeds, record = [], actor_module.record
    monkeypatch.setattr(
        actor_module, "record", lambda *args, **kwargs: (seeds.extend(args[3]), record(*args, **kwargs))[1]
    )
    assert_same_run(settings, train(settings), whole)
    first = min(Rollouts(settings.folder / "refresh.zarr").names())[-7:]
    assert [seed - int(first) for seed in seeds] == ([4, 5] if others else [2, 3, 4, 5])  # what is there stays


class Death:
    """Kills the actors that get jobs of the given numbers, while they are at it."""

    def __init__(self, patch: pytest.MonkeyPatch, when: dict[int, Callable[[int], None]]) -> None:
        self.killed: list[int] = []
        self._when, self._ask, self._asked = when, ActorProcess.ask, 0
        patch.setattr(ActorProcess, "ask", lambda actor, job: self.ask(actor, job))

    def ask(self, actor: ActorProcess, job: Job) -> Any:
        self._asked += 1
        if (wait := self._when.get(self._asked)) is not None:
            if actor._process is None:
                actor.start()
            assert actor._process is not None
            assert actor._process.pid is not None
            Thread(target=self._kill, args=(actor._process.pid, wait)).start()
        return self._ask(actor, job)

    def _kill(self, process: int, wait: Callable[[int], None]) -> None:
        wait(process)
        with suppress(ProcessLookupError):  # the run has ended meanwhile, and its actors with it
            os.kill(process, signal.SIGKILL)
            self.killed.append(process)


def until_writing(settings: TrainSettings) -> Callable[[int], None]:
    """Waits until a process is about to have a refreshed episode on disk."""

    def wait(process: int) -> None:
        deadline = time.monotonic() + 60
        while not list((settings.folder / "refresh.zarr").glob(f".tmp-{process}-*")):
            assert time.monotonic() < deadline
            time.sleep(0.001)

    return wait


def test_a_killed_actor_is_replaced_and_the_weights_are_those_of_a_run_without_actors(
    data, whole, tmp_path, monkeypatch
):
    settings = asked(data, tmp_path, **DELAYED, actors=1)
    death = Death(monkeypatch, {2: until_writing(settings)})
    assert_same_run(settings, train(settings), whole)
    (killed,) = death.killed
    assert not pid_exists(killed)
    assert not list((settings.folder / "refresh.zarr").glob(".tmp-*"))


@pytest.mark.slow
def test_two_actors_that_die_and_a_changed_mind_give_the_same_weights(data, whole, tmp_path, monkeypatch):
    settings = asked(data, tmp_path, **DELAYED, actors=2)
    death = Death(monkeypatch, {number: lambda _: time.sleep(0.1) for number in (1, 4, 5)})
    original = Agent.update

    def ending(self: Agent, *args: Any, **kwargs: Any) -> Any:
        if self.updates == 23:
            raise Crash
        return original(self, *args, **kwargs)

    interrupted(settings, Agent, "update", ending)
    assert len(death.killed) >= 2
    assert not [child for child in Process().children() if "spawn_main" in " ".join(child.cmdline())]
    assert_same_run(settings, train(replace(settings, actors=1)), whole)


@pytest.mark.slow
def test_a_job_over_which_actor_after_actor_dies_ends_the_run(data, tmp_path, monkeypatch):
    settings = asked(data, tmp_path, **DELAYED, actors=1)
    Death(monkeypatch, {number: until_writing(settings) for number in (1, 2, 3)})
    with pytest.raises(SemoreError, match=r"3 actors died over the episodes with seeds 500000 … 500000 .*exit code -9"):
        train(settings)


def brief_of(settings: TrainSettings, folder: Path, knowledge: tuple[Path, str] | None = None) -> Brief:
    rollouts = Rollouts(folder / "refresh.zarr")
    rollouts.create()
    return Brief(World.of(settings), settings.agent, 1.0, rollouts.path, knowledge, ExecutorSettings(), 1)


def test_an_actor_s_answers_are_those_of_this_process_and_so_are_its_errors(data, tmp_path):
    settings = asked(data, tmp_path)
    brief, weights = brief_of(settings, tmp_path), snapshot(Agent(settings.agent))
    validation = Job(weights, (1_001_000, 1_001_001), records=False)
    torn = Job(weights, (500_000,), records=True)
    (brief.rollouts / "jaywalk-0500000").mkdir()
    brief = replace(brief, knowledge=(data / "knowledge", "privileged"))
    found = []
    for crew in (LoneCrew(Actor(brief)), ProcessCrew(brief, 1)):
        with closing(crew):
            found.append(crew.fetch(crew.hand_in(validation)))
            with pytest.raises(SemoreError, match="jaywalk-0500000 is not a recorded episode"):
                crew.fetch(crew.hand_in(torn))
            with pytest.raises(RuntimeError, match="Missing key"):
                crew.fetch(crew.hand_in(replace(validation, weights={})))
            assert crew.waited > 0
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_only_refreshes_are_noisy_and_their_noise_has_the_memory_asked_for(data, tmp_path, monkeypatch):
    policy, asked_for = World.policy, []
    monkeypatch.setattr(World, "policy", lambda *args: (asked_for.append(args[2:]), policy(*args))[1])
    schedule = replace(TINY.schedule, updates=13, refresh_spread=0.5, refresh_noise_memory=0.9, validate_every=0)
    train(asked(data, tmp_path, schedule=schedule))
    assert asked_for == [(0.5, 0.9), ()]


def test_a_validation_tells_how_every_decision_steered(data, tmp_path, monkeypatch):
    settings, step, lost = asked(data, tmp_path), DrivingEnv.step, iter([False] * 9 + [True])

    def losing(env: DrivingEnv, action: Any) -> Any:
        if next(lost, False):
            raise EpisodeLost("on purpose")
        return step(env, action)

    job = Job(snapshot(Agent(settings.agent)), (1_001_000, 1_001_001), records=False)
    with closing(Actor(brief_of(settings, tmp_path))) as actor:
        whole = actor.work(job)
        monkeypatch.setattr(DrivingEnv, "step", losing)
        again = actor.work(job)
    assert not list(lost)
    for end, once_lost in zip(whole, again, strict=True):
        assert len(end["steers"]) == len(once_lost["steers"]) == end["steps"] / settings.frame_skip
        assert np.abs(end["steers"]).mean() == pytest.approx(end["steer"], rel=1e-5)
        np.testing.assert_allclose(end["steers"], once_lost["steers"], atol=1e-5)


def test_what_is_measured_of_a_validation_s_episodes():
    common = {"distance": 5.0, "crash_intensity": 0.0, "steer": 0.1, "brake": 0.0}
    ends = [
        {**common, "reward": 10.0, "ending": "success", "steers": [0.5, 0.0, 0.25]},
        {**common, "reward": 30.0, "ending": "collisions", "steers": [-1.0, 1.0]},
        {**common, "reward": 20.0, "ending": "stuck", "steers": [0.7]},
        {**common, "reward": 20.0, "ending": "collisions", "steers": []},
    ]
    found = measured(ends)
    assert found["validation/reward"] == 20.0
    assert found["validation/reward_std"] == pytest.approx(50**0.5)
    assert found["validation/collisions"] == 0.5
    assert found["validation/steer_change"] == pytest.approx((0.5 + 0.25 + 2.0) / 3)  # of decisions, not of episodes
    assert measured(ends[2:])["validation/steer_change"] == 0.0


def test_driving_takes_one_thread_whatever_their_number(data, tmp_path, monkeypatch):
    """The number decides how sums are rounded, and an actor's process has one."""
    settings, forward, seen = asked(data, tmp_path), PolicyNetwork.forward, set()

    def noting(self: PolicyNetwork, observation: torch.Tensor) -> Any:
        seen.add(torch.get_num_threads())
        return forward(self, observation)

    monkeypatch.setattr(PolicyNetwork, "forward", noting)
    torch.set_num_threads(2)
    with closing(Actor(brief_of(settings, tmp_path), 2)) as actor:
        for records in (False, True):
            actor.work(Job(snapshot(Agent(settings.agent)), (500_000, 500_001), records))
    assert seen == {1}
    assert torch.get_num_threads() == 2


CHILD = """
import sys
sys.path[:0] = {tests!r}
from test_actors import *
from tiny_run import shorten
from semore.train import run as run_module
shorten(pytest.MonkeyPatch())
run_module.export_policy = lambda agent, path, view: path.touch()
from semore.datasets.run_command import run_command
run_command(lambda: print(train(asked(Path(sys.argv[1]), Path(sys.argv[2]), **DELAYED, actors=2))["weights_sha256"]))
"""
FOLDERS = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


@pytest.fixture
def learner(data, tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A run with two actors, in a process group of its own, when both are there and the policy drives."""
    run, log = tmp_path / "run", tmp_path / "log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD.format(tests=FOLDERS), str(data), str(tmp_path)],
            stdout=said, stderr=said, text=True, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((run / "refresh.zarr").glob("*jaywalk*")):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


def actors_of(process: subprocess.Popen[str]) -> list[Process]:
    return [child for child in Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]


def gone(actors: list[Process], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(actor.is_running() and actor.status() != "zombie" for actor in actors) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(actor.is_running() and actor.status() != "zombie" for actor in actors)


@pytest.mark.slow
def test_actors_die_with_a_killed_learner_and_the_run_goes_on_to_the_same_weights(data, whole, tmp_path, learner):
    actors = actors_of(learner)
    assert len(actors) == 2
    learner.kill()
    learner.wait()
    assert gone(actors, 5.0)
    assert not (tmp_path / "run" / "summary.json").exists()
    settings = asked(data, tmp_path, **DELAYED, actors=2)
    assert_same_run(settings, train(settings), whole)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGUSR1, 75), (signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_group_that_is_signalled_ends_in_order(data, whole, tmp_path, learner, sent, code):
    """As SLURM and a terminal do: the learner and its actors are signalled alike."""
    actors = actors_of(learner)
    os.killpg(learner.pid, sent)
    assert learner.wait(60) == code, (tmp_path / "log").read_text()
    assert gone(actors, 5.0)
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert ("saved at update" in said) == (sent != signal.SIGINT)
    settings = asked(data, tmp_path, **DELAYED)
    assert_same_run(settings, train(settings), whole)
    assert metrics(settings) == metrics(whole[0])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"actors": -1}, "actors is -1"),
        ({"schedule": replace(TINY.schedule, delay=TINY.schedule.updates)}, "nothing that is driven would count"),
        ({"schedule": replace(TINY.schedule, delay=-1)}, "schedule.delay is -1"),
        ({"schedule": replace(TINY.schedule, shares=0)}, "schedule.shares is 0"),
        ({"schedule": replace(TINY.schedule, shares=3, refresh_frames=2)}, "fewer than the 3 shares"),
        ({"simulator": "carla", "actors": 2, "carla": replace(TINY.carla, servers=2)}, "--schedule.shares 2"),
    ],
)
def test_actors_without_sense_are_refused(data, tmp_path, changes, word):
    with pytest.raises(SemoreError, match=word):
        asked(data, tmp_path, **changes).validate()
    servers = replace(TINY.carla, servers=2)
    asked(
        data, tmp_path, simulator="carla", actors=2, carla=servers, schedule=replace(TINY.schedule, shares=2)
    ).validate()
