from dataclasses import replace

from torch import nn

from caloforge.exporting.contract import TensorInfo, plain_contract


class LayerEnergies(nn.Module):
    """A module with the output of the program."""

    def __init__(self, showers):
        super().__init__()
        self.showers = showers

    def forward(self, *inputs):
        return self.showers(*inputs).flatten(2).sum(2)


def contract(model):
    """The plain inputs, and the energies of the layers."""
    plain = plain_contract(model)
    return replace(
        plain,
        module=LayerEnergies(plain.module),
        output=TensorInfo("layers", "visible energy of each layer", "MeV", ("layer",)),
        texts=lambda manifest: {"README.txt": f"Layers of {manifest['model']['name']}.\n"},
    )
