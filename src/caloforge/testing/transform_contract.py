"""The contract test of transforms of voxel energies."""

from __future__ import annotations

import numpy as np

from caloforge.transforms import Transform


def check_transform(transform: Transform, *, threshold: float = 0.0, tolerance: float = 1e-5) -> None:
    """Test the contract of a transform.

    The inverse restores every energy above the threshold, empty voxels stay empty, the transform is
    monotonic, NumPy and torch agree, and gradients reach the energies.

    Args:
        transform: The transform.
        threshold: Voxels below this become 0, MeV.
        tolerance: Relative error allowed to the round trip in float32.
    """
    import torch

    energy = np.concatenate([[0.0], np.geomspace(max(threshold, 1e-4), 1e5, 200)]).astype(np.float32)
    image = np.asarray(transform.forward(energy))
    assert image.shape == energy.shape, f"shape {energy.shape} became {image.shape}"
    assert image[0] == 0, f"an empty voxel became {image[0]}"
    assert np.all(np.isfinite(image)), "some energies have no finite image"
    assert np.all(np.diff(image) >= 0), "larger energies got smaller images"
    back = np.asarray(transform.inverse(image))
    assert np.allclose(back, energy, rtol=tolerance, atol=0), "the inverse does not undo the transform"
    if threshold > 0:
        below = np.asarray(transform.forward(np.array([0.5 * threshold], np.float32)))
        assert below[0] == 0, "an energy below the threshold is kept"

    tensor = torch.from_numpy(energy[1:]).requires_grad_()
    traced = transform.forward(tensor)
    assert np.allclose(traced.detach().numpy(), image[1:], rtol=1e-5), "torch and NumPy disagree"
    traced.sum().backward()
    assert tensor.grad is not None, "no gradient reaches the energies"
    assert torch.isfinite(tensor.grad).all(), "a gradient is not finite"
