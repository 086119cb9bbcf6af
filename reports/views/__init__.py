"""Views: one question a file, `view(frame) -> Section`; `ORDER` is its place in a report."""
