from caloforge.tuning.samplers.config import Sampler

SAMPLER = Sampler("caloforge_example.latin_hypercube:LatinHypercube.from_config", several_objectives=True)
