"""How a training scales: measured here, projected to many nodes, held against what is published."""
