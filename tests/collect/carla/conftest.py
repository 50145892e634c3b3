"""A loopback server and a caller of it by name; and these tests may subclass the simulator contract, with its failed
assertions explained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_thread import Caller, serving

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contracts"))
pytest.register_assert_rewrite("simulator_contract")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server's, for a module's tests."""
    with serving() as found:
        yield found


@pytest.fixture
def client(port: int) -> Iterator[Caller]:
    """A caller in synchronous mode, in a new episode on Town01."""
    caller = Caller(port)
    caller.call("load_new_episode", "Town01", True, 0)
    caller.synchronous()
    yield caller
    caller.close()
