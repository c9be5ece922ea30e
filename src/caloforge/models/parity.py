"""Whether a backend makes the showers that torch makes: the inputs both are given, and the comparison.

Named inputs, in this order: `energy` (N,) MeV, `theta` and `phi` (N,) rad, all float32; `pdg_id` (N,) int32
where the model knows several particles; `impact_x` and `impact_y` (N,) float32, mm, where it was trained on
showers off the axis of the mesh; `noise` (N, *noise_shape) float32, standard normal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.conditions import Condition
from caloforge.errors import ModelError
from caloforge.geometry.mesh import IMPACT
from caloforge.models.base import ShowerModel

Arrays = dict[str, NDArray[np.generic]]
# showers that a graph is compared on with torch, and the seed of their noise
SAMPLE, SAMPLE_SEED = 4, 1
# share of the energy that may lie in other cells; a cell at a threshold may fall on the other side of it
PARITY = 1e-3
# of arithmetic that is not exact: only what is broken is refused, quality is for `validate`
ROUGH_PARITY = 0.3


def graph_inputs(model: ShowerModel, condition: Condition, noise: NDArray[np.float32]) -> Arrays:
    """Conditions and noise as named inputs, in the order of a graph's."""
    arrays: Arrays = {
        "energy": condition.energy.numpy(),
        "theta": condition.theta.numpy(),
        "phi": condition.phi.numpy(),
    }
    if len(model.ranges.pdg_ids) > 1:
        arrays["pdg_id"] = condition.pdg_id.numpy()
    if model.ranges.off_axis:
        arrays |= {name: getattr(condition, name).numpy() for name in IMPACT}
    return arrays | {"noise": noise}


def condition_of(model: ShowerModel, inputs: Arrays) -> Condition:
    """The conditions among named inputs."""
    names = ("energy", "theta", "phi", *(IMPACT if model.ranges.off_axis else ()))
    columns = {name: torch.from_numpy(inputs[name]) for name in names}
    if "pdg_id" in inputs:
        pdg_id = torch.from_numpy(inputs["pdg_id"])
    else:
        pdg_id = torch.full_like(columns["energy"], model.ranges.pdg_ids[0], dtype=torch.int32)
    return Condition(**columns, pdg_id=pdg_id)


def sample_inputs(model: ShowerModel, count: int = SAMPLE) -> Arrays:
    """Conditions over the trained range, and noise: what graphs are traced, compared and calibrated with."""
    ranges = model.ranges
    rng = np.random.default_rng(SAMPLE_SEED)

    def within(limits: tuple[float, float]) -> Tensor:
        return torch.from_numpy(rng.uniform(*limits, count).astype(np.float32))

    pdg_id = torch.from_numpy(rng.choice(np.array(ranges.pdg_ids, np.int32), count))
    condition = Condition(within(ranges.energy), within(ranges.theta), within(ranges.phi), pdg_id)
    if ranges.off_axis:
        condition = replace(condition, impact_x=within(ranges.impact_x), impact_y=within(ranges.impact_y))
    return graph_inputs(model, condition, rng.standard_normal((count, *model.noise_shape), np.float32))


def check_parity(
    model: ShowerModel, run: Callable[[Arrays], NDArray[np.float32]], name: str, *, exact: bool = True
) -> float:
    """Compare a runtime with torch on a few showers.

    Args:
        model: The model, on the CPU.
        run: Showers (N, *shower_shape) of the named inputs.
        name: What runs, for the message.
        exact: Whether it computes in fp32.

    Returns:
        The share of the energy that lies in other cells, the mean over the showers.

    Raises:
        ModelError: It makes other showers.
    """
    inputs = sample_inputs(model)
    noise = torch.from_numpy(inputs["noise"])
    with torch.inference_mode():
        showers = model.generate(condition_of(model, inputs), noise)
    want = showers.numpy().reshape(SAMPLE, -1).astype(np.float64)
    got = run(inputs).reshape(SAMPLE, -1).astype(np.float64)
    share = float(np.mean(np.abs(got - want).sum(axis=1) / np.maximum(want.sum(axis=1), 1e-12)))
    # also true where it is NaN
    if not share <= (PARITY if exact else ROUGH_PARITY):
        raise ModelError(
            f"{name} makes other showers of this model than torch: {share:.2g} of the energy in other cells, "
            f"expected at most {PARITY if exact else ROUGH_PARITY:g}; use --backend torch"
        )
    return share
