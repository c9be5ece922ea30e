"""The contract test of model families; see `caloforge.models.base.ShowerModel`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.showers import ShowerBatch

if TYPE_CHECKING:
    from torch import Tensor

    from caloforge.models.base import Condition, Phase, ShowerModel, TrainingBatch

SHOWERS = 4
FIT_SHOWERS = 60
# number of training steps within which every part must be trained
STEPS = 100


def check_model(build: Callable[[], ShowerModel]) -> None:
    """Test the contract of a family, with random weights fitted to random showers.

    Fitting is reproducible. Losses are finite, and their gradients reach all parameters of the part that they
    train and none of another. Generated showers have the right shape, are not negative, reproducible, and
    depend on their own condition and noise only. A stored and reloaded model gives the same showers, and so
    does the compiled form, if there is one. Conditions outside the trained range are refused. A model for
    several impact points makes other showers at another one. Damaged weights are refused when loaded, or give
    other showers, but never crash.

    Args:
        build: Builds the model; every call gives the same one.
    """
    model, again = build(), build()
    for one in (model, again):
        fit_to_made_up(one)
    _check_identity(model, again)
    batch = made_up_batch(model)
    _check_step(model, batch)
    _check_generation(model, batch)
    _check_impacts(model, batch)
    _check_storage(model, batch)
    _check_ranges(model)
    _check_damaged(model, batch)


def made_up_batch(model: ShowerModel, count: int = SHOWERS, seed: int = 0) -> TrainingBatch:
    """Random showers with conditions inside the model's range."""
    from caloforge.models.base import TrainingBatch

    return TrainingBatch.of(_random_showers(model, count, seed))


def fit_to_made_up(model: ShowerModel, count: int = FIT_SHOWERS) -> ShowerModel:
    """Call the model's `fit` with random showers in two batches; returns the model."""
    batches = [_random_showers(model, count // 2, seed) for seed in (1, 2)]
    model.fit(batches, np.random.default_rng(0))
    return model


def _random_showers(model: ShowerModel, count: int, seed: int) -> ShowerBatch:
    rng = np.random.default_rng(seed)
    ranges, shape = model.ranges, (count, *model.detector.shower_shape)
    showers = rng.exponential(2.0, shape) * (rng.random(shape) < 0.2)
    return ShowerBatch(
        showers.astype(np.float32),
        rng.uniform(*ranges.energy, count).astype(np.float32),
        rng.uniform(*ranges.theta, count).astype(np.float32),
        rng.uniform(*ranges.phi, count).astype(np.float32),
        rng.choice(np.array(ranges.pdg_ids, np.int32), count),
        impact_x=rng.uniform(*ranges.impact_x, count).astype(np.float32),
        impact_y=rng.uniform(*ranges.impact_y, count).astype(np.float32),
    )


def _check_identity(model: ShowerModel, again: ShowerModel) -> None:
    import torch

    assert model.family, "the family has no name"
    # the class of "mean-shower" is MeanShower
    name = model.family.lower().replace("-", "")
    assert name in repr(model).lower().replace("-", ""), "repr does not name the model"
    first, second = model.state_dict(), again.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first), (
        "building and fitting twice gives other weights"
    )
    owned = [id(p) for part in model.optimized().values() for p in part.parameters()]
    assert len(owned) == len(set(owned)), "two optimisers share a parameter"
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert trained == set(owned), "a parameter has no optimiser"


def _check_step(model: ShowerModel, batch: TrainingBatch) -> None:
    import torch

    torch.manual_seed(0)
    model.train()
    reached: dict[str, set[str]] = {name: set() for name in model.optimized()}
    # a family may train its parts in sequence
    for _ in range(STEPS):
        for phase in model.step(batch):
            _check_phase(model, phase, reached)
        if all(reached.values()):
            break
    for name, part in model.optimized().items():
        missing = {key for key, _ in part.named_parameters()} - reached[name]
        assert not missing, f"no gradient reaches {sorted(missing)} of {name}"
    model.zero_grad(set_to_none=True)


def _check_phase(model: ShowerModel, phase: Phase, reached: dict[str, set[str]]) -> None:
    """Check the loss of one update, and record the parameters that its gradient reaches."""
    import torch

    assert phase.optimizer in reached, f"a phase names the unknown optimiser {phase.optimizer!r}"
    assert phase.loss.ndim == 0, f"a loss has the shape {tuple(phase.loss.shape)}, expected a scalar"
    assert torch.isfinite(phase.loss), f"a loss of {phase.optimizer} is {phase.loss.item()}"
    assert not any(value.requires_grad for value in phase.logs.values()), "logs carry a graph"
    model.zero_grad(set_to_none=True)
    phase.loss.backward()  # type: ignore[no-untyped-call]
    for name, part in model.optimized().items():
        with_gradient = {key for key, p in part.named_parameters() if p.grad is not None}
        assert name == phase.optimizer or not with_gradient, (
            f"a phase of {phase.optimizer} also trains {name}"
        )
        reached[name] |= with_gradient


def _check_generation(model: ShowerModel, batch: TrainingBatch) -> None:
    import torch

    model.eval()
    noise = torch.randn((SHOWERS, *model.noise_shape), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        showers = model.generate(batch.condition, noise)
        again = model.generate(batch.condition, noise)
        part = model.generate(batch.condition[1:3], noise[1:3])
    assert showers.shape == batch.showers.shape, f"generated {tuple(showers.shape)}"
    assert showers.dtype == torch.float32, f"generated {showers.dtype}, expected float32"
    assert torch.isfinite(showers).all(), "generated energies are not finite"
    assert (showers >= 0).all(), "generated energies are negative"
    assert torch.equal(showers, again), "the same noise gives other showers"
    # tolerance: another batch size changes the order of sums, and so the rounding
    moved = float((showers[1:3] - part).abs().sum() / showers[1:3].sum())
    assert moved < 1e-5, f"a shower depends on its neighbours: {moved:.2g} of the energy elsewhere"
    if model.compilable:
        compiled = torch.from_numpy(_generate_compiled(model, batch.condition, noise))
        # tolerance: rounding may push a cell over a threshold
        moved = float((compiled - showers).abs().sum() / showers.sum())
        assert moved < 1e-3, f"the compiled form makes other showers: {moved:.2g} of the energy elsewhere"


def _generate_compiled(model: ShowerModel, condition: Condition, noise: Tensor) -> NDArray[np.float32]:
    numbers = noise.numpy()
    return model.compiled()(condition.to_numpy(), lambda start, stop: numbers[start:stop])


def _check_storage(model: ShowerModel, batch: TrainingBatch) -> None:
    import torch

    from caloforge.models.store import load_model, save_model

    noise = torch.randn((SHOWERS, *model.noise_shape), generator=torch.Generator().manual_seed(2))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_model(model, Path(folder), dict(model.state_dict()))
        loaded = load_model(Path(folder))
        same = torch.equal(model.generate(batch.condition, noise), loaded.generate(batch.condition, noise))
    assert loaded.facts == model.facts, "the facts of the training data changed on the way to disk"
    assert loaded.config == model.config, "the configuration changed on the way to disk"
    assert loaded.detector == model.detector, "the detector changed on the way to disk"
    assert same, "a stored model generates other showers"


def _check_ranges(model: ShowerModel) -> None:
    from caloforge.errors import ConfigError

    ranges = model.ranges
    ends = (ranges.energy[1], ranges.theta[0], ranges.phi[0], ranges.pdg_ids[0])
    inside = Conditions(*map(np.atleast_1d, (*ends, ranges.impact_x[0], ranges.impact_y[0])))
    ranges.check(inside)
    for name, other in (("energy", 2 * inside.energy), ("impact_x", inside.impact_x - 1)):
        try:
            ranges.check(replace(inside, **{name: other}))
        except ConfigError:
            continue
        raise AssertionError(f"{name} outside the trained range is not refused")


def _check_impacts(model: ShowerModel, batch: TrainingBatch) -> None:
    """Showers depend on the impact point where the model was trained on several."""
    import torch

    ranges = model.ranges
    if not ranges.off_axis:
        return
    assert model.takes_impacts(model.config), (
        "the family does not declare takes_impact, and was built for impact points"
    )
    noise = torch.randn((SHOWERS, *model.noise_shape), generator=torch.Generator().manual_seed(4))
    low, high = (
        replace(
            batch.condition,
            impact_x=torch.full((SHOWERS,), ranges.impact_x[end]),
            impact_y=torch.full((SHOWERS,), ranges.impact_y[end]),
        )
        for end in (0, 1)
    )
    with torch.no_grad():
        same = torch.equal(model.generate(low, noise), model.generate(high, noise))
    assert not same, "the impact point makes no difference"


def _check_damaged(model: ShowerModel, batch: TrainingBatch) -> None:
    import torch

    from caloforge.errors import ModelError
    from caloforge.models.store import load_state

    noise = torch.randn((1, *model.noise_shape), generator=torch.Generator().manual_seed(3))
    condition = batch.condition[:1]
    good = {name: value.clone() for name, value in model.state_dict().items()}
    learned = dict(model.named_parameters())
    for name, value in good.items():
        for damage, damaged, must_refuse in _damages(value, learned=name in learned):
            what = f"{name} with {damage}"
            try:
                load_state(model, good | {name: damaged}, Path("damaged"))
            except ModelError:
                continue
            except Exception as error:
                raise AssertionError(f"{what} is not refused but fails: {error!r}") from error
            assert not must_refuse, f"{what} is not refused"
            try:
                with torch.no_grad():
                    model.generate(condition, noise)
                    if model.compilable:
                        _generate_compiled(model, condition, noise)
            except Exception as error:
                raise AssertionError(f"{what} is not refused, and generation fails: {error!r}") from error
    load_state(model, good, Path("whole"))


def _damages(value: Tensor, *, learned: bool) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield damaged tensors as (description, tensor, whether it must be refused)."""
    import torch

    floating = value.is_floating_point()
    limits = torch.finfo(value.dtype) if floating else torch.iinfo(value.dtype)
    yield "nothing but the largest number", torch.full_like(value, limits.max), False
    yield "another type", value.to(torch.int32 if floating else torch.float64), True
    if floating and value.numel():
        one = value.clone(memory_format=torch.contiguous_format)
        one.view(-1)[-1] = float("nan")
        yield "a nan at its end", one, True
    if learned:
        # learned parameters are no indices or counts: any number is valid
        return
    numbers = [limits.min, -1, 1000, limits.max] + ([float("inf")] if floating else [])
    for number in numbers:
        must_refuse = not np.isfinite(number) and value.numel() > 0
        yield f"nothing but {number:g}", torch.full_like(value, number), must_refuse
        if value.numel() > 1:
            one = value.clone(memory_format=torch.contiguous_format)
            one.view(-1)[-1] = number
            yield f"a {number:g} at its end", one, must_refuse
    # torch loads a tensor of shape (1,) as a scalar
    yield "an axis more", value[None], value.ndim > 0
    if value.ndim:
        yield "nothing in it", value[:0], value.numel() > 0
        yield "a row less", value[:-1], value.numel() > 0
        yield "a row twice", torch.cat([value, value[-1:]]), value.numel() > 0
        yield "no axes", value.new_zeros(()), True
