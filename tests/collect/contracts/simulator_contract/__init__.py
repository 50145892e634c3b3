"""What every Simulator promises (collect.simulator), as tests that any implementation can run unedited.

Subclass `SimulatorContract` in a test module and say how a simulator is made; pytest collects the subclass only:

    from simulator_contract import SimulatorContract, Tolerances

    class TestMine(SimulatorContract):
        name = "mine"
        tolerances = Tolerances(position=0.05)
        scenarios = ("JayWalk", "HighBeam")      # of collect.scenarios.SCENARIOS; the default is all
        weathers = ("hard_high_light", "midnight")

        def make_simulator(self, size: int) -> Simulator:
            return MySimulator(camera=size)

`make_simulator` must not lean on fixtures: one test calls it in another process, on a new instance of the subclass,
whose module that process must be able to import. The other class attributes, and what may be left out, stand in
`base.py`; a promise that an implementation cannot make (mirror symmetry, an end of the road, `save`) is skipped by
name. Times are not tested, and no two simulators are compared with each other.

From another package, put this folder's parent on the path and let pytest rewrite its assertions, in your conftest.py:

    sys.path.insert(0, "<semore>/tests/collect/contracts")
    pytest.register_assert_rewrite("simulator_contract")
"""

from simulator_contract.base import Tolerances
from simulator_contract.casting import Casting
from simulator_contract.endings import Endings
from simulator_contract.hits import Hits
from simulator_contract.motion import Motion
from simulator_contract.pictures import Pictures
from simulator_contract.repeats import Repeats
from simulator_contract.saving import Saving

__all__ = ["SimulatorContract", "Tolerances"]


class SimulatorContract(Pictures, Motion, Hits, Casting, Endings, Repeats, Saving):
    """All topics together; see the module's docstring."""
