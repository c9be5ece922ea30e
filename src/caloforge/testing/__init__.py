"""Contract tests for authors of model families, transforms, samplers, formats and backends.

Call them from your tests:

    from caloforge.testing import check_model, check_sampler

    def test_my_family():
        check_model(build_my_model)

    def test_my_sampler():
        check_sampler("latin-hypercube")

A function raises an AssertionError that describes the violation if the contract does not hold.
"""

from caloforge.testing.backend_contract import check_backend
from caloforge.testing.format_contract import check_format
from caloforge.testing.model_contract import check_model
from caloforge.testing.sampler_contract import check_sampler
from caloforge.testing.transform_contract import check_transform

__all__ = ["check_backend", "check_format", "check_model", "check_sampler", "check_transform"]
