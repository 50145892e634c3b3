"""Whether a server that answers can be driven on: the one rule for doctor, supervisor and client alike."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Final, NamedTuple

from semore.collect.carla.ping import Identity
from semore.collect.carla.settings import CARLA_VERSION

_NUMBER: Final = re.compile(r"v?(\d+(?:\.\d+)+)")


class Verdict(NamedTuple):
    """Whether it will do, and what there is to say: why not, or what remains unsure; "" for nothing."""

    fit: bool
    remark: str


def installed_client() -> str:
    """Version of the installed `carla` wheel; without one that of the wheel Semore would install."""
    try:
        return metadata.version("carla")
    except metadata.PackageNotFoundError:
        return CARLA_VERSION


def versions(client: str, server: str) -> Verdict:
    """Whether a client and a server of these versions go together.

    A release is called by its number. What somebody built is called by git: `0.9.16-dirty`, `0.9.16-12-gabc1234`, or
    by a bare hash where tags are missing. Another number is refused, since its data may not decode; a build is believed
    to be of 0.9.16 unless its name says otherwise."""
    if (found := _number(server)) not in (None, CARLA_VERSION):
        remedy = f"start that version (carlasim/carla:{CARLA_VERSION})"
    elif (found := _number(client)) not in (None, CARLA_VERSION):
        remedy = "install that client: make setup SIM=carla"
    elif found and client == server:
        return Verdict(True, "")
    else:
        return Verdict(
            True,
            f"server {server!r} and client {client!r}: a build's name does not say what it speaks; if episodes are "
            f"lost, build both from the sources of {CARLA_VERSION}",
        )
    return Verdict(
        False, f"the server is CARLA {server}, the client {client}, and Semore needs {CARLA_VERSION} of both; {remedy}"
    )


def server(found: Identity, host: str) -> Verdict:
    """Whether the server that answered at `host` can be driven on with the installed client."""
    verdict = versions(installed_client(), found.version)
    if verdict.fit and found.closed:
        port = found.closed
        return Verdict(
            False,
            f"it answers calls, but its streams, at port {port} of {host}, cannot be reached, and without them there "
            f"are no pictures; forward that port too (ssh -L {port}:127.0.0.1:{port}, docker -p {port}:{port} or "
            "--net=host), and open it in firewalls",
        )
    return verdict


def _number(version: str) -> str | None:
    match = _NUMBER.match(version)
    return match.group(1) if match else None
