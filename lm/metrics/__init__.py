"""Ranking and classification metrics, and the counting baselines that a model must beat."""
