"""What a shower costs in a homogeneous detector, by its mesh: about the same number of cells, in one run.

python benchmarks/meshes.py
"""

from caloforge.beam import BeamConfig
from caloforge.config import build
from caloforge.fullsim.config import FullSimConfig
from caloforge.fullsim.timing import time_showers
from caloforge.geometry import load_detector

SHOWERS, ROUNDS = 20, 3
MESHES = {
    "cartesian, 12 x 12 cells of 7.5 mm": {
        "kind": "cartesian",
        "nx": 12,
        "ny": 12,
        "cell_x": "7.5 mm",
        "cell_y": "7.5 mm",
    },
    "cylindrical, 9 rings of 5 mm x 16": {"kind": "cylindrical", "nr": 9, "nphi": 16, "cell_r": "5 mm"},
}


def main() -> None:
    slab = {"material": "G4_PbWO4", "thickness": "1 cm", "active": True}
    beam = build(BeamConfig, {"energy": {"kind": "fixed", "value": "10 GeV"}}, "beam")
    seconds: dict[str, list[float]] = {name: [] for name in MESHES}
    for seed in range(ROUNDS):
        for name, mesh in MESHES.items():
            layers = [{"repeat": 22, "slabs": [slab]}]
            detector = load_detector({"name": "crystals", "width": "30 cm", "layers": layers, "mesh": mesh})
            batch = time_showers(detector, beam, FullSimConfig(), SHOWERS, seed=seed)
            assert batch.seconds is not None
            seconds[name].append(float(batch.seconds.mean()))
    first, *_ = (sum(times) for times in seconds.values())
    for name, times in seconds.items():
        print(f"{name:<36} {sum(times) / ROUNDS:.3f} s a shower, ratio {sum(times) / first:.2f}")


if __name__ == "__main__":
    main()
