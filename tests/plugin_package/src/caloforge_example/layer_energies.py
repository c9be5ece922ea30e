from dataclasses import replace

from torch import nn

from caloforge.exporting.contract import TensorInfo, plain_contract


class LayerEnergies(nn.Module):
    """Wraps the plain graph: visible energy of each layer in MeV, (N, layers)."""

    def __init__(self, showers):
        super().__init__()
        self.showers = showers

    def forward(self, *inputs):
        return self.showers(*inputs).flatten(2).sum(2)


def contract(model):
    """Tensor contract of the target: inputs of the plain graph, layer energies as output."""
    plain = plain_contract(model)
    return replace(
        plain,
        module=LayerEnergies(plain.module),
        output=TensorInfo("layers", "visible energy of each layer", "MeV", ("layer",)),
        texts=lambda manifest: {"README.txt": f"Layers of {manifest['model']['name']}.\n"},
    )
