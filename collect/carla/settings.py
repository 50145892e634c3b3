"""The `carla` settings of every stage that drives: where servers are, or how to start them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Final

from semore.datasets.errors import SemoreError

CARLA_VERSION: Final = "0.9.16"
"""Of client and server alike: another server's answers may not even decode."""
STRIDE: Final = 10
"""Ports from one server to the next; each takes three (calls, streams, secondary servers)."""


@dataclass(frozen=True)
class CarlaSettings:
    """CARLA servers: found running, or started from a command line. Only read with simulator carla."""

    host: str = "127.0.0.1"
    """Machine the servers run on."""
    port: int = 2000
    """RPC port of the first server; the next ones follow in tens."""
    servers: int = 1
    """Servers, hence episodes driven at once."""
    command: str = ""
    """Command line that starts a server, {port} standing for its port; empty: servers are started by somebody else."""
    stop: str = ""
    """Command line that ends a server which killing its processes does not reach (docker rm -f NAME-{port})."""
    timeout: float = 20.0
    """Seconds within which a server answers a call, or counts as hung. Loading a map may take three times as long."""
    start_timeout: float = 120.0
    """Seconds within which a started server answers, or one that went away comes back."""
    patience: float = 0.0
    """Seconds to wait for a server that somebody else is about to start; 0: ask once."""
    memory: float = 0.0
    """GiB of memory at which a server started here is started anew between two episodes; 0: no limit."""
    logs: str = "data/carla"
    """Folder of the servers' output and of black boxes."""

    def ports(self) -> range:
        """RPC port of every server."""
        return range(self.port, self.port + STRIDE * self.servers, STRIDE)

    def validate(self) -> None:
        """SemoreError naming the first setting that makes no sense."""
        if self.servers < 1 or self.port < 1 or self.ports()[-1] + 2 > 65_535:
            raise SemoreError(
                f"carla.port {self.port} and carla.servers {self.servers} must be at least 1, and the last server's "
                "third port at most 65535"
            )
        if self.timeout <= 0 or self.start_timeout <= 0 or self.patience < 0 or self.memory < 0:
            raise SemoreError(
                "carla.timeout and carla.start_timeout must be above 0, carla.patience and carla.memory not below"
            )
        if self.command and self.servers > 1 and "{port}" not in self.command:
            raise SemoreError(
                f"carla.command {self.command!r} starts every server on the same port; write {{port}} where the RPC "
                "port belongs, e.g. -carla-rpc-port={port}"
            )
        if self.command and self.host not in ("127.0.0.1", "localhost"):
            raise SemoreError(f"carla.command starts servers on this machine, carla.host is {self.host!r}; drop one")


def check_client() -> None:
    """SemoreError when the client library is not installed. It is not imported: only a client's own process does."""
    try:
        metadata.version("carla")
    except metadata.PackageNotFoundError:
        raise SemoreError(
            "the carla client is not installed; have it with: make setup SIM=carla, or pip install 'semore[carla]'"
        ) from None
