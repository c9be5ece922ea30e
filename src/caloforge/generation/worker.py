"""The worker process of generated showers, `python -m caloforge.generation.worker`.

It answers as `caloforge.campaign.worker` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge._version import __version__
from caloforge.beam import BeamConfig
from caloforge.campaign.worker import Simulates, main
from caloforge.conditions import Conditions
from caloforge.errors import ModelError
from caloforge.generation.campaign import ChunkBlock, decoded
from caloforge.generation.conditions import conditions_sampled
from caloforge.generation.generate import run
from caloforge.generation.opening import open_model
from caloforge.generation.plan import Plan
from caloforge.models.store import read_model
from caloforge.showers.writer import compressed_chunks


class Generator:
    """A loaded model that generates blocks of a campaign."""

    version = __version__

    def __init__(self, job: dict[str, Any]) -> None:
        """Load the model.

        Raises:
            ModelError: It is damaged, or another one than that of the driver.
        """
        model = read_model(job["model"], allow_large=job["allow_large"])
        if model.digest != job["model_digest"]:
            raise ModelError(
                f"{model.folder}: another model lies there on a node ({model.digest[:12]}, the driver has "
                f"{job['model_digest'][:12]}); put the model where all nodes see it"
            )
        self._loaded = open_model(model, Plan(**job["plan"]))
        self._detector, self._first = model.detector, job["first"]
        document = job["conditions"]
        self._beam = BeamConfig.model_validate(document["beam"]) if "beam" in document else None
        self._conditions = None if self._beam is not None else decoded(document)

    def simulate(self, seed: int, start: int, stop: int) -> ChunkBlock:
        """Generate the showers [start, stop)."""
        conditions = self._conditions_of(seed, start, stop)
        seconds = np.zeros(0, np.float32)

        def batches() -> Iterator[NDArray[np.float32]]:
            for batch in run(self._loaded, conditions, seed=seed, first=start):
                nonlocal seconds
                assert batch.seconds is not None
                seconds = np.concatenate([seconds, batch.seconds])
                yield batch.showers

        chunks = list(compressed_chunks(batches(), self._detector, start))
        return ChunkBlock(start, seconds, chunks)

    def _conditions_of(self, seed: int, start: int, stop: int) -> Conditions:
        if self._conditions is not None:
            return self._conditions[start - self._first : stop - self._first]
        assert self._beam is not None
        return conditions_sampled(self._beam, self._detector.mesh, seed, stop, start)


def _open(job: dict[str, Any]) -> Simulates:
    return Generator(job)


if __name__ == "__main__":
    main(_open)
