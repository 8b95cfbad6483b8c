"""Inference of causal language models: weights, batching, prefill, decoding and sampling."""
