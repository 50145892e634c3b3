"""Which client and server go together."""

from __future__ import annotations

import pytest

from semore.collect.carla.fitness import versions


@pytest.mark.parametrize("version", ["0.9.16", "v0.9.16", "0.9.16-dirty", "0.9.16-12-g4f1c2aa"])
def test_equal_builds_of_the_release_go_together_without_a_word(version: str) -> None:
    assert versions(version, version) == (True, "")


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("0.9.16", "0.9.16-dirty"),
        ("0.9.16-dirty", "0.9.16"),
        ("0.9.16", "4f1c2aa"),
        ("4f1c2aa-dirty", "0.9.16"),
        ("4f1c2aa", "4f1c2aa"),
        ("0.9.16", "1234567"),
        ("0.9.16", ""),
    ],
)
def test_builds_from_source_go_together_with_a_warning(client: str, server: str) -> None:
    fit, remark = versions(client, server)
    assert fit
    assert f"server {server!r} and client {client!r}" in remark


@pytest.mark.parametrize(
    ("client", "server", "remedy"),
    [
        ("0.9.16", "0.9.15", "carlasim/carla:0.9.16"),
        ("0.9.16", "0.9.15-dirty", "carlasim/carla:0.9.16"),
        ("0.9.16", "0.9.160", "carlasim/carla:0.9.16"),
        ("0.9.16", "0.10.0", "carlasim/carla:0.9.16"),
        ("4f1c2aa", "0.9.13", "carlasim/carla:0.9.16"),
        ("0.9.15", "0.9.15", "carlasim/carla:0.9.16"),
        ("0.9.15", "0.9.16", "make setup SIM=carla"),
        ("0.9.15-dirty", "4f1c2aa", "make setup SIM=carla"),
    ],
)
def test_another_release_is_refused_with_a_remedy(client: str, server: str, remedy: str) -> None:
    fit, remark = versions(client, server)
    assert not fit
    assert f"CARLA {server}, the client {client}" in remark
    assert remedy in remark
