"""Data: each file prepares one corpus or set of samples, as `.npy` files that workers memory-map."""
