"""Answers to customers' questions: retrieval, prompts, grounded writing, and their training."""
