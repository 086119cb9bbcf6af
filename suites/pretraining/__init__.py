"""Pretraining: each file prepares one task without labels, as `prepare(model, config, device) -> Work`."""
