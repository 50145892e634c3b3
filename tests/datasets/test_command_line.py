"""Command lines: lists, switches, variables of the environment, and mistakes in one line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from semore.datasets.command_line import MANY, OPTIONAL, SOME, VARIABLES, read_settings, setting_names
from semore.datasets.errors import UsageError


@dataclass(frozen=True)
class Lamp:
    """A lamp."""

    watts: float = 5.0
    """Its power."""


@dataclass(frozen=True)
class Trip:
    """A trip."""

    start: str
    """Where it begins."""
    stops: tuple[str, ...] = field(default=(), metadata=MANY)
    """Where it stops."""
    seeds: tuple[int, ...] = (1, 2)
    """Seeds."""
    vary: tuple[str, ...] = ()
    """Texts that may hold commas and brackets."""
    scenario: str = "JayWalk"
    """A scenario."""
    films: bool = True
    """Whether it is filmed."""
    quiet: bool = False
    """Whether nothing is said."""
    lamp: Lamp = field(default_factory=Lamp)
    """The lamp."""


def trip(*words: str) -> Trip:
    return read_settings(Trip, "trip", words)


def test_lists_take_words_or_uses_or_the_parsers_own_form():
    assert trip("home", "--seeds", "3", "4").seeds == (3, 4)
    assert trip("home", "--seeds", "3", "--seeds", "4").seeds == (3, 4)
    assert trip("home", "--seeds", "[3, 4]").seeds == trip("home", "--seeds=[3,4]").seeds == (3, 4)
    assert trip("home", "--vary", "a=1,2", "b=[3]", "--vary=c=4").vary == ("a=1,2", "b=[3]", "c=4")
    assert trip("home").seeds == (1, 2)
    assert trip("home", "--seeds").seeds == ()


def test_places_and_switches():
    assert trip("home", "a", "b") == Trip("home", ("a", "b"))
    assert trip("home", "--quiet").quiet
    assert not trip("home", "--quiet", "false").quiet
    assert not trip("home", "--films=false").films
    assert trip("home", "--lamp.watts", "7").lamp == Lamp(7.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["home", "--sedes", "3"], "did you mean --seeds?"),
        (["home", "--lamp.wats", "3"], "did you mean --lamp.watts?"),
        (["home", "--zzz"], "--zzz"),
        (["home", "--lamp.watts", "much"], "lamp.watts"),
        (["home", "--seeds", "1", "x"], "seeds"),
        ([], "start"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy(words, said):
    with pytest.raises(UsageError) as raised:
        trip(*words)
    assert said in str(raised.value)
    assert "`semore trip --help` lists all options" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_environment_gives_defaults_that_the_command_line_beats(monkeypatch):
    def asked(*words: str) -> Trip:
        monkeypatch.setattr("sys.argv", ["trip", "home", *words])
        return read_settings(Trip, "trip")

    monkeypatch.setenv("SEMORE_SCENARIO", "HighBeam")
    monkeypatch.setenv("SEMORE_SEEDS", "5 6")
    monkeypatch.setenv("SEMORE_VARY", "a=1,2 b=3")
    monkeypatch.setenv("SEMORE_METHOD", "sac")  # a trip has none
    assert (asked().scenario, asked().seeds, asked().vary) == ("HighBeam", (5, 6), ("a=1,2", "b=3"))
    assert asked("--scenario", "HighWay", "--seeds", "7").seeds == (7,)
    assert trip("home").scenario == "JayWalk", "who names all the words is not surprised by the environment"
    monkeypatch.setenv("SEMORE_SCENARIO", "")
    assert asked().scenario == "JayWalk"


def test_a_variable_of_some_commands_is_not_taken_by_others(monkeypatch):
    monkeypatch.setenv("SEMORE_FRAMES", "7")

    @dataclass(frozen=True)
    class Audit:
        """An audit."""

        frames: int = 1
        """Frames."""

    monkeypatch.setattr("sys.argv", ["audit"])
    assert VARIABLES["FRAMES"].commands == ("annotate",)
    assert read_settings(Audit, "audit").frames == 1
    assert read_settings(Audit, "annotate").frames == 7


def test_one_scenario_is_meant_by_a_command_that_takes_several(monkeypatch):
    @dataclass(frozen=True)
    class Films:
        """Films."""

        scenarios: tuple[str, ...] = ()
        """Scenarios."""

    monkeypatch.setenv("SEMORE_SCENARIO", "highbeam")
    monkeypatch.setattr("sys.argv", ["demo"])
    assert read_settings(Films, "demo").scenarios == ("HighBeam",)


def test_make_hands_on_every_variable_and_no_other():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    block = re.search(r"^variables := (.*?)[^\\]\n\$", makefile, re.MULTILINE | re.DOTALL)
    assert block is not None
    assert set(block[0].removesuffix("$").replace("variables :=", "").replace("\\", " ").split()) == set(VARIABLES)


def test_positional_fields_that_need_a_word(monkeypatch):
    @dataclass(frozen=True)
    class Join:
        """A join."""

        runs: tuple[str, ...] = field(metadata=SOME)
        """Runs."""
        other: str = field(default="", metadata=OPTIONAL)
        """Another."""

    assert read_settings(Join, "join", ["a"]).runs == ("a",)
    with pytest.raises(UsageError, match="runs"):
        read_settings(Join, "join", [])
    assert set(setting_names(Trip)) >= {"lamp.watts", "start"}
