"""One job in slices, on engines that run them: processes of this machine, a Ray cluster (docs/batch.md)."""
