"""Data: from whatever lies on disk to a checked, split `Table`, and from a row to a prepared sample."""
