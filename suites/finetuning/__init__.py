"""Fine-tuning: each file prepares one task with an answer to score, as `prepare(model, config, device) -> Work`."""
