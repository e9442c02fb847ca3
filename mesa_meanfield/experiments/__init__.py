"""Experiments: many replicas of a model, paired counterfactuals, a search for the best intervention, bands.

Replicas (replicas.py) become runs (runs.py); two arms of runs a comparison (counterfactual.py, comparison.py),
several a plan (planning.py, its objectives in objectives.py); one arm's runs a forecast with bands (bands.py),
which recorded cascades widen to nominal coverage (evaluation/conformal.py). Intervals of means stand in estimates.py.
"""
