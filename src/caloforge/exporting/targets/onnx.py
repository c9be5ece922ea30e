"""Target `onnx`: the plain graph, for programs that load it themselves."""

from __future__ import annotations

from caloforge.exporting.contract import Contract, plain_contract
from caloforge.models.base import ShowerModel


def contract(model: ShowerModel) -> Contract:
    """The plain contract."""
    return plain_contract(model)
