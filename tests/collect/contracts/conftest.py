"""Has pytest explain the contract's failed assertions as it does those of test modules."""

import pytest

pytest.register_assert_rewrite("simulator_contract")
