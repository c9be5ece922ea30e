"""Contract tests for authors of model families and transforms, to be called from their tests.

    from caloforge.testing import check_model, check_transform

    def test_my_family():
        check_model(build_my_model)

A function raises an AssertionError that describes the violation if the contract does not hold.
"""

from caloforge.testing.model_contract import check_model
from caloforge.testing.transform_contract import check_transform

__all__ = ["check_model", "check_transform"]
