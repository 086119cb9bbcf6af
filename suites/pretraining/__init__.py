"""Pretraining: each file prepares one task on text, as `prepare(model, config, device) -> Work`."""
