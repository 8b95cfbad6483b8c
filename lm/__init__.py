"""GPT-2: checkpoints, prompts, constrained generation, classification, training, metrics; usable without Spark."""
