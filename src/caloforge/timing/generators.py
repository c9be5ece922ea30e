"""The generators that the benchmark measures: a model loaded on a backend, as a job describes it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.beam import BeamConfig
from caloforge.conditions import Conditions
from caloforge.config import build
from caloforge.generation.conditions import conditions_like
from caloforge.generation.engine import load_on_backend
from caloforge.generation.generate import run, write_file
from caloforge.generation.plan import LoadedModel, Plan
from caloforge.geometry import load_detector
from caloforge.models.base import ShowerModel
from caloforge.models.registry import build_model, create_model, read_model_config
from caloforge.models.store import load_model, model_digest
from caloforge.models.training_metadata import facts_of_beam
from caloforge.showers import ShowerFile
from caloforge.timing.sources import PUBLISHED_BEAM


class Engine:
    """A model on a backend, generating showers uniformly over its trained range.

    Attributes:
        facts: Family, detector, shower shape, and number and bytes of the parameters used in generation.
    """

    def __init__(self, model: ShowerModel, backend: str, precision: str, threads: int, seed: int) -> None:
        """Keep the model; it is loaded on the backend for each batch size at first use."""
        self.model, self.seed, self.threads = model.eval(), seed, threads
        self.network = cache(lambda batch: self._open(backend, precision, batch))
        self.facts = {
            "family": model.family,
            "detector": model.detector.name,
            "shape": list(model.detector.shower_shape),
            "parameters": sum(parameter.numel() for parameter in model.sampler().parameters()),
            "weight_bytes": sum(value.nbytes for value in model.sampler().state_dict().values()),
        }

    def _open(self, backend: Any, precision: Any, batch: int) -> LoadedModel:
        return load_on_backend(self.model, Plan(backend, precision, batch, self.threads))

    def prepare(self, batch: int) -> None:
        """Export and compile for a batch size."""
        self.network(batch)

    def make(self, showers: int, batch: int) -> None:
        """Generate showers in memory: noise, network, inverse transform and thresholds."""
        for _ in run(self.network(batch), self._conditions(showers), seed=self.seed):
            pass

    def write(self, showers: int, batch: int, path: Path) -> None:
        """Generate showers into a file."""
        write_file(
            self.network(batch), self._conditions(showers), path, seed=self.seed, provenance={}, force=True
        )

    def write_like(self, truth: Path, showers: int, batch: int, path: Path) -> None:
        """Generate the first showers of a file again, with its incident conditions."""
        conditions = conditions_like(truth, self.model.detector, showers)
        write_file(self.network(batch), conditions, path, seed=self.seed, provenance={}, force=True)

    def _conditions(self, showers: int) -> Conditions:
        """Conditions drawn uniformly over the trained range."""
        rng, ranges = np.random.default_rng(self.seed), self.model.claim

        def within(limits: tuple[float, float]) -> NDArray[np.float32]:
            return rng.uniform(*limits, showers).astype(np.float32)

        particles = rng.choice(np.array(ranges.pdg_ids, np.int32), showers)
        return Conditions(
            within(ranges.energy),
            within(ranges.theta),
            within(ranges.phi),
            particles,
            within(ranges.impact_x),
            within(ranges.impact_y),
        )


def open_engine(job: dict[str, Any]) -> Engine:
    """Build the engine of a job from its `source`, `backend`, `precision`, `threads` and `seed`.

    Raises:
        CaloforgeError: The model cannot be read or built.
    """
    source, seed = job["source"], job["seed"]
    if "preset" in source:
        config = read_model_config({"family": "gan3d", "preset": source["preset"]}, "model")
        detector = load_detector(source["detector"])
        facts = facts_of_beam(build(BeamConfig, PUBLISHED_BEAM, "beam"), detector.mesh)
        model = build_model(config, detector, facts, seed=seed)
    elif "library" in source:
        path = Path(source["library"])
        model = create_model(read_model_config({"family": "frozen"}, "model"), path)
        with ShowerFile(path) as file:
            model.fit(file.iterate(), np.random.default_rng(seed))
    else:
        model = load_model(source["model"])
    engine = Engine(model, job["backend"], job["precision"], job["threads"], seed)
    if "model" in source:
        # a model card finds its own times by this digest
        engine.facts["model_digest"] = model_digest(source["model"])
    return engine
