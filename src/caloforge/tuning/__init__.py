"""The search for hyper-parameters: a study samples runs, trains groups of them on Ray, and keeps the best."""
