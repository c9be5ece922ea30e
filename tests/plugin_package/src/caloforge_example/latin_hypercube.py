from scipy.stats import qmc

from caloforge.tuning.samplers.base import ReplaySampler
from caloforge.tuning.samplers.embedding import Embedding


class LatinHypercube(ReplaySampler):
    """Latin hypercubes of 16 trials each."""

    several_objectives = True

    def suggest(self, study, trial, space):
        embedding = Embedding(space)
        cube, place = divmod(trial.number, 16)
        points = qmc.LatinHypercube(len(embedding.names), rng=[self.seed, cube]).random(16)
        return embedding.decode(embedding.from_uniform(points)[place])
