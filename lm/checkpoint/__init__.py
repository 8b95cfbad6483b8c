"""Model folders: finding, opening, describing and fingerprinting a checkpoint and its tokenizer."""
