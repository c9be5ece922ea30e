"""Contract tests for authors of models and transforms: call them from a test of yours.

    from caloforge.testing import check_model, check_transform

    def test_my_family():
        check_model(build_my_model)

A function returns when the contract holds and raises AssertionError, with what is wrong, when it does not.
"""

from caloforge.testing.model_contract import check_model
from caloforge.testing.transform_contract import check_transform

__all__ = ["check_model", "check_transform"]
