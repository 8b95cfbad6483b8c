"""Next-purchase lists: catalogue, trie, beam search, rules, the hybrid of GPT-2 and counting, and reasons."""
