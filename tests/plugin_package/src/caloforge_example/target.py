from caloforge.exporting.registry import Target

TARGET = Target("energies of the layers", "caloforge_example.layer_energies:contract")
