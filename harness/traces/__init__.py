"""Traces: what a trace of torch.profiler says about a step, read without torch."""
