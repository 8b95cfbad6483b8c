"""Text in and token ids out: redaction, templates, prompts, n-gram counts and text-based splits."""
