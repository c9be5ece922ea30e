"""Mixed precision: autocast to bf16, and the choice of fp32 or bf16 by timing a small batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from caloforge.errors import ConfigError
from caloforge.models.base import ShowerModel, TrainingBatch
from caloforge.training.config import Precision

# bf16 is rejected at once if one convolution is slower than fp32 by this factor; without hardware support it
# can be hundreds of times slower
MAX_SLOWDOWN = 3.0
# "auto" takes bf16 if a step takes at most this fraction of the time in fp32: less may be chance
GAIN_OF_BF16 = 0.8


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast context for forward passes; disabled for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def choose_precision(model: ShowerModel, batch: TrainingBatch, wanted: Precision) -> str:
    """Choose "fp32" or "bf16"; "auto" times a step in both and takes bf16 if it is clearly faster.

    Families that need fp32 are trained in it. Weights, running statistics and the state of torch's generator
    are restored.

    Raises:
        ConfigError: bf16 is wanted of a family that needs fp32.
    """
    if not model.trains_in_bf16:
        if wanted == "bf16":
            raise ConfigError(
                f"training.precision: got bf16, in which a training of the family {model.family} runs away; "
                "expected fp32 or auto"
            )
        return "fp32"
    if wanted != "auto":
        return wanted
    device = batch.showers.device
    small = batch[:2]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        with torch.random.fork_rng(devices=[]):
            if not _bf16_is_usable(device):
                return "fp32"
            seconds = {name: _time(partial(_pass, model, small, name)) for name in ("fp32", "bf16")}
    finally:
        model.load_state_dict(state)
        model.zero_grad(set_to_none=True)
    return "bf16" if seconds["bf16"] < GAIN_OF_BF16 * seconds["fp32"] else "fp32"


def _bf16_is_usable(device: torch.device) -> bool:
    """Whether a small bf16 convolution is at most `MAX_SLOWDOWN` times slower than in fp32."""
    x = torch.randn(1, 4, 8, 8, 8, device=device)
    conv = torch.nn.Conv3d(4, 4, 3, padding=1).to(device)

    def run(precision: str) -> None:
        with torch.no_grad(), autocast(device, precision):
            conv(x)

    return _time(lambda: run("bf16")) < MAX_SLOWDOWN * max(_time(lambda: run("fp32")), 1e-3)


def _pass(model: ShowerModel, batch: TrainingBatch, precision: str) -> None:
    with autocast(batch.showers.device, precision):
        for phase in model.step(batch):
            phase.loss.backward()  # type: ignore[no-untyped-call]


def _time(action: Callable[[], None]) -> float:
    """Seconds of the faster of two runs."""
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
