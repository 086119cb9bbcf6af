"""Kernels: one operation alone, forward and backward, so that nothing else of a model hides what it takes."""
