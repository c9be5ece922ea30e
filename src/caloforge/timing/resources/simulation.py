"""CPU time of a shower of Geant4."""

from __future__ import annotations

import resource
import time

from caloforge.beam import BeamConfig
from caloforge.fullsim.config import FullSimConfig
from caloforge.fullsim.timing import time_showers
from caloforge.geometry import Detector


def simulation_time(detector: Detector, beam: BeamConfig, fullsim: FullSimConfig, count: int) -> float:
    """Mean CPU time of a shower over the spectrum of a beam, s.

    The wall time of each shower, times the share of a core that the simulating process had: other work on
    the machine makes a wall time longer.

    Args:
        detector: The detector.
        beam: The incident particles.
        fullsim: Settings of Geant4.
        count: Showers to simulate, stratified in energy.

    Raises:
        SimulationError, MissingDependencyError: Geant4 does not run on this machine.
    """
    start, before = time.perf_counter(), _children()
    batch = time_showers(detector, beam, fullsim, count)
    share = (_children() - before) / (time.perf_counter() - start)
    assert batch.seconds is not None
    return float(batch.seconds.mean()) * min(1.0, share)


def _children() -> float:
    """CPU time of all child processes that have ended, s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
