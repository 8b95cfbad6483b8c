"""Next-purchase lists: catalogue, trie, beam search, the hybrid of GPT-2 and counting, and their training."""
