from caloforge.foreign_formats import Converter

NPZ = Converter("caloforge_example.npz:open_npz", "caloforge_example.npz:write_npz")
