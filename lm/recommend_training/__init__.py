"""The training of next-purchase lists: examples, fine-tuning, counting and the weights of the hybrid."""
