"""Lets these tests subclass the simulator contract, with its failed assertions explained."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contracts"))
pytest.register_assert_rewrite("simulator_contract")
