"""The suites: models, attention backends, tasks, data and definitions, one thing a file, found by its name."""
