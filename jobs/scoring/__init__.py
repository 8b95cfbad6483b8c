"""Requests through the model: the ledger of answers, waves, failed requests and loaded models."""
