"""Settings: presets, overrides, mistakes, and the help they come with."""

from __future__ import annotations

import ast
import errno
import inspect
import os
import textwrap
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from semore.annotate.__main__ import AnnotateSettings
from semore.collect.plan import CollectSettings
from semore.datasets.errors import SemoreError
from semore.datasets.presets import PRESETS, preset_path, preset_section
from semore.datasets.run_command import run_command
from semore.datasets.settings import as_dict, from_dict, from_record, load_settings
from semore.evaluate.__main__ import EvaluateSettings
from semore.train.settings import TrainSettings

STAGES = {
    "collect": CollectSettings,
    "annotate": AnnotateSettings,
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
}


@dataclass(frozen=True)
class Engine:
    """An engine."""

    power: float = 1.0
    """Its power in kW."""
    gears: tuple[int, ...] = (1, 2)
    """Ratios of its gears."""


@dataclass(frozen=True)
class CarSettings:
    """A car."""

    preset: str = "laptop"
    """Which preset."""
    name: str = "car"
    """What it is called."""
    wheels: int = 4
    """How many wheels it stands on."""
    policies: dict[str, float] = field(default_factory=lambda: {"a": 1.0})
    """Shares."""
    engine: Engine = field(default_factory=Engine)
    """The engine."""


CAR = """
car:
  wheels: 3
  policies: {b: 0.25, c: 0.75}
  engine: {power: 55}
other: {}
"""


@pytest.fixture
def preset(tmp_path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(CAR)
    return str(path)


def car(*arguments: str) -> CarSettings:
    return load_settings(CarSettings, "car", arguments)


def test_a_presets_section_fills_the_defaults(preset):
    loaded = car("--preset", preset)
    assert loaded == CarSettings(preset, "car", 3, {"b": 0.25, "c": 0.75}, Engine(55.0, (1, 2)))
    assert isinstance(loaded.engine, Engine)
    assert car(f"--preset={preset}") == loaded


def test_the_command_line_overrides_the_preset(preset):
    loaded = car("--preset", preset, "--engine.power=70.5", "--name", "van", '--policies={"z": 2}')
    assert loaded == CarSettings(preset, "van", 3, {"z": 2.0}, Engine(70.5, (1, 2)))
    assert car("--engine.power=1", "--preset", preset).engine.power == 1.0  # whatever the order
    assert car("--preset", preset, "--engine.gears=[5,6,7]").engine == Engine(55.0, (5, 6, 7))


def test_a_config_file_stands_between_preset_and_command_line(preset, tmp_path):
    (tmp_path / "over.yaml").write_text("wheels: 6\nengine: {gears: [9]}\n")
    loaded = car("--preset", preset, "--config", str(tmp_path / "over.yaml"), "--wheels=8")
    assert (loaded.wheels, loaded.engine) == (8, Engine(55.0, (9,)))


def test_the_command_line_beats_a_config_file_in_any_order(preset, tmp_path):
    for name, content in (("over.yaml", "{wheels: 6, engine: {gears: [9]}}"), ("last.yaml", "wheels: 7")):
        (tmp_path / name).write_text(content)
    over, last = f"--config={tmp_path / 'over.yaml'}", str(tmp_path / "last.yaml")
    loaded = car("--wheels=8", over, "--preset", preset)
    assert (loaded.wheels, loaded.engine) == (8, Engine(55.0, (9,)))
    assert car("--preset", preset, over, "--config", last).wheels == 7  # of two files the later one
    assert car("--config", last, "--preset", preset, over).wheels == 6


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("place", ["file", "nested", "text", "environment", "preset", "python"])
def test_a_preset_brings_its_values_wherever_it_is_named(monkeypatch, tmp_path, stage, place):
    """Else a run would be called after a preset that it has nothing of."""
    other = tmp_path / "other.yaml"
    other.write_text("{collect: {episodes: 3}, annotate: {batch: 3}, train: {seed: 3}, evaluate: {episodes: 3}}")
    (tmp_path / "p.yaml").write_text(f"{{preset: {other}, scenario: HighBeam}}")
    (tmp_path / "nested.yaml").write_text(f"config: {tmp_path / 'p.yaml'}")
    (tmp_path / "mine.yaml").write_text(f"{stage}: {{preset: {other}, scenario: HighBeam}}")
    settings, words, preset = STAGES[stage], [], str(other)
    match place:
        case "file":
            words = ["--config", str(tmp_path / "p.yaml")]
        case "nested":
            words = ["--config", str(tmp_path / "nested.yaml")]
        case "text":
            words = [f"--config={{preset: {other}, scenario: HighBeam}}"]
        case "environment":  # jsonargparse's own way, when it is told to look there
            monkeypatch.setenv("JSONARGPARSE_DEFAULT_ENV", "true")
            monkeypatch.setenv(f"SEMORE {stage.upper()}_PRESET", str(other))
            words = ["--scenario", "HighBeam"]
        case "preset":  # one that rests on another
            words = ["--preset", preset := str(tmp_path / "mine.yaml")]
    if place == "python":
        loaded: Any = from_dict(settings, {"preset": preset, "scenario": "HighBeam"})
    else:
        loaded = load_settings(settings, stage, words)
    value = {"collect": "episodes", "annotate": "batch", "train": "seed", "evaluate": "episodes"}[stage]
    assert (loaded.preset, loaded.scenario, getattr(loaded, value)) == (preset, "HighBeam", 3)
    monkeypatch.undo()
    written = load_settings(settings, stage, ["--preset", str(other), "--scenario", "HighBeam"])
    assert loaded == replace(written, preset=preset)  # type: ignore[type-var]


def test_explicit_settings_lie_on_top_of_the_preset_that_stands_beside_them(tmp_path):
    (tmp_path / "p.yaml").write_text("{preset: paper, schedule: {updates: 7}}")
    over = ["--config", str(tmp_path / "p.yaml")]
    paper = load_settings(TrainSettings, "train", ["--preset", "paper", "--schedule.updates=7"])
    assert load_settings(TrainSettings, "train", over) == paper
    assert from_dict(TrainSettings, {"preset": "paper", "schedule": {"updates": 7}}) == paper
    debug = load_settings(TrainSettings, "train", ["--preset", "debug", "--schedule.updates=7"])
    assert load_settings(TrainSettings, "train", ["--preset", "debug", *over]) == debug
    assert load_settings(TrainSettings, "train", [*over, "--preset=debug", "--seed=3"]) == replace(debug, seed=3)


def test_a_record_is_read_as_it_was_written_whatever_its_preset_says_today():
    assert from_record(TrainSettings, {"preset": "gone.yaml", "seed": 4}) == TrainSettings("gone.yaml", seed=4)
    with pytest.raises(SemoreError, match=r"unknown preset 'gone\.yaml'"):
        from_dict(TrainSettings, {"preset": "gone.yaml", "seed": 4})
    with pytest.raises(SemoreError, match=r"TrainSettings: .*sed"):
        from_dict(TrainSettings, {"sed": 4})


def test_presets_that_rest_on_each_other_are_refused(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.yaml").write_text(f"car: {{preset: {tmp_path / other}.yaml}}")
    with pytest.raises(SemoreError, match=r"b\.yaml, section 'car': preset .*a\.yaml rests on this one"):
        car("--preset", str(tmp_path / "a.yaml"))


def test_the_last_preset_counts_whole(preset, tmp_path):
    (tmp_path / "other.yaml").write_text("car: {name: other}")
    other = str(tmp_path / "other.yaml")
    assert car("--preset", preset, "--preset", other) == car("--preset", other) == CarSettings(other, "other")
    assert car(f"--preset={other}", "--preset", preset) == car("--preset", preset)


def test_the_laptop_preset_is_the_default():
    assert load_settings(CollectSettings, "collect", []) == load_settings(
        CollectSettings, "collect", ["--preset", "laptop"]
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--wheel=3"],  # no abbreviations
        ["--bogus", "1"],
        ["--engine.torque=3"],
        ["--wheels=round"],
        ["--wheels=3.5"],
        ["--engine.gears=[a]"],
        ["--policies={a: much}"],
    ],
)
def test_unknown_keys_and_wrong_types_end_with_code_2(preset, words, capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: car("--preset", preset, *words))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "error:" in said
    assert words[0].removeprefix("--").partition("=")[0] in said
    assert "Traceback" not in said


def test_an_abbreviated_preset_is_not_half_taken(capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: load_settings(CollectSettings, "collect", ["--pres", "debug"]))
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{weels: 3}", "weels"),
        ("{engine: {pwer: 3}}", "pwer"),
        ("{wheels: round}", "wheels.*int.*round"),
        ("{wheels: 3.5}", "wheels.*int.*3.5"),
        ("{engine: {power: much}}", "engine.power.*float.*much"),
        ("{policies: {a: much}}", "policies.*float.*much"),
    ],
)
def test_mistakes_in_a_preset_name_file_and_key(tmp_path, content, named):
    path = tmp_path / "typo.yaml"
    path.write_text(f"car: {content}")
    with pytest.raises(SemoreError, match=rf"typo\.yaml, section 'car': .*{named}"):
        car("--preset", str(path))


def test_preset_values_get_the_types_of_the_settings(tmp_path):
    path = tmp_path / "whole.yaml"
    path.write_text("car: {engine: {power: 5, gears: [3, 4]}}")
    loaded = car("--preset", str(path))
    assert loaded.engine == Engine(5.0, (3, 4))
    assert isinstance(loaded.engine.power, float)


def test_wrong_presets_are_named(tmp_path):
    with pytest.raises(SemoreError, match="unknown preset 'huge'; choose one of debug, laptop, paper, scratch"):
        car("--preset", "huge")
    path = tmp_path / "p.yaml"
    for content in ("other: {}", "car: 3", "- car", ""):
        path.write_text(content)
        with pytest.raises(SemoreError, match=r"p\.yaml has no section 'car'"):
            car("--preset", str(path))
    path.write_text("car: {a: [")
    with pytest.raises(SemoreError, match=r"p\.yaml is not valid YAML"):
        car("--preset", str(path))


def test_presets_are_found_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert preset_path("debug") == PRESETS / "debug.yaml"
    (tmp_path / "debug.yaml").write_text("car: {}")
    assert preset_path("debug") == PRESETS / "debug.yaml"
    assert preset_path("debug.yaml") == Path("debug.yaml")


# The presets there are


def names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def test_the_three_presets_are_there():
    assert {"debug", "laptop", "paper"} <= set(names())


def leaves(section: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for key, value in section.items():
        nested = isinstance(value, dict) and key != "policies"
        found += leaves(value, (*prefix, key)) if nested else [((*prefix, key), value)]
    return found


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("preset", names())
def test_every_preset_serves_every_stage(monkeypatch, tmp_path, preset, stage):
    monkeypatch.chdir(tmp_path)
    trained = tmp_path / "runs" / f"JayWalk-{preset}" / "policy.pt2"  # what `evaluate` looks for
    trained.parent.mkdir(parents=True)
    trained.touch()
    loaded = load_settings(STAGES[stage], stage, ["--preset", preset])
    assert loaded.preset == preset  # a run is named after it
    for path, value in leaves(preset_section(preset, stage)):
        found: Any = loaded
        for key in path:
            found = getattr(found, key)
        assert found == (tuple(value) if isinstance(value, list) else value), path
    if hasattr(loaded, "validate"):
        loaded.validate()


@pytest.mark.parametrize("preset", names())
def test_presets_fit_together(preset):
    """Training can view what collecting records, and has no sections nobody reads."""
    collecting = load_settings(CollectSettings, "collect", ["--preset", preset])
    training = load_settings(TrainSettings, "train", ["--preset", preset])
    assert collecting.action_repeat == training.frame_skip
    assert training.agent.encoder.size <= collecting.camera == 128  # one cache for all (design.md §3)
    assert set(yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())) == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_settings_come_back_from_what_is_saved(stage):
    loaded = load_settings(STAGES[stage], stage, ["--preset", "debug"])
    plain = as_dict(loaded)
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain
    words = [f"--{'.'.join(path)}={yaml.safe_dump(value, default_flow_style=True).partition(chr(10))[0]}"
             for path, value in leaves(plain) if value != ""]  # fmt: skip
    assert load_settings(STAGES[stage], stage, ["--preset", "debug", *words]) == loaded


# Help


def documented(settings: type, prefix: str = "") -> dict[str, str]:
    """The docstring below every setting of a class, of its bases and of the groups in it, by dotted name."""
    owners = [owner for owner in settings.__mro__ if is_dataclass(owner)]
    bodies = [ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body for owner in owners]
    found = {}
    for setting, below in chain.from_iterable(map(pairwise, bodies)):
        if not isinstance(setting, ast.AnnAssign):
            continue
        text = below.value.value if isinstance(below, ast.Expr) else ""
        name = setting.target.id
        group = type(getattr(settings(), name))
        found |= documented(group, f"{prefix}{name}.") if is_dataclass(group) else {prefix + name: text}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_help_explains_every_setting(stage, capsys):
    with pytest.raises(SystemExit) as ended:
        load_settings(STAGES[stage], stage, ["--help"])
    assert ended.value.code == 0
    said = "".join(capsys.readouterr().out.split())
    assert f"usage:semore{stage}" in said
    settings = documented(STAGES[stage])
    assert len(settings) >= len(fields(STAGES[stage]))
    for name, text in settings.items():
        assert f"--{name}" in said
        assert text, f"--{name} has no docstring"
        assert "".join(text.split()) in said, name


def test_help_shows_the_attribute_docstrings(capsys):
    with pytest.raises(SystemExit):
        load_settings(CollectSettings, "collect", ["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Side of a recorded frame in pixels." in said
    assert "Simulator steps for which a policy holds each action; every step is recorded." in said
    with pytest.raises(SystemExit):
        load_settings(TrainSettings, "train", ["--help"])
    assert "Updates between validations on validation seeds." in " ".join(capsys.readouterr().out.split())


def test_help_shows_the_presets_values(capsys):
    with pytest.raises(SystemExit):
        load_settings(CollectSettings, "collect", ["--preset", "paper", "--help"])
    assert "default: 8)" in capsys.readouterr().out


def test_print_config_can_be_read_back(capsys, tmp_path):
    with pytest.raises(SystemExit):
        load_settings(TrainSettings, "train", ["--preset", "debug", "--agent.lr=0.5", "--print_config"])
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    over = ["--config", str(tmp_path / "config.yaml")]
    written = load_settings(TrainSettings, "train", ["--preset", "debug", "--agent.lr=0.5"])
    assert load_settings(TrainSettings, "train", over) == written
    # The command line's preset, and every one of the file's values on top of it.
    assert load_settings(TrainSettings, "train", ["--preset", "paper", *over]) == replace(written, preset="paper")


# Command lines


def open_failing(number: int) -> None:
    raise OSError(number, os.strerror(number), "docs/eyes.md")


def test_an_error_is_one_line_and_code_1_and_a_stop_is_130(capsys):
    def fail() -> None:
        raise SemoreError("x.zarr is torn; delete it")

    def stop() -> None:
        raise KeyboardInterrupt

    for command, code, said in ((fail, 1, "error: x.zarr is torn; delete it\n"), (stop, 130, "stopped; ")):
        with pytest.raises(SystemExit) as ended:
            run_command(command)
        assert ended.value.code == code
        assert capsys.readouterr().err.startswith(said)
    for number in (errno.EROFS, errno.EACCES):
        with pytest.raises(SystemExit) as ended:
            run_command(lambda number=number: open_failing(number))
        assert ended.value.code == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: docs/eyes.md: {os.strerror(number)}; choose a folder")
        assert said.count("\n") == 1
    with pytest.raises(OSError, match="Input/output"):  # a disk that fails is no matter of choice
        run_command(lambda: open_failing(errno.EIO))
    with pytest.raises(ZeroDivisionError):  # a defect of ours is not dressed up
        run_command(lambda: print(1 / 0))
