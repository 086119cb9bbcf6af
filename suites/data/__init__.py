"""Data: each file prepares one corpus, as `.npy` files that workers memory-map."""
