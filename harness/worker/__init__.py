"""The worker's side: one case alive in one process, driven over the wire (torch >= 1.13, no pandas)."""
