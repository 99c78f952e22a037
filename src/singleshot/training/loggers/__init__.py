"""Places besides ``metrics.csv`` to which a run's numbers go: one file each, registered in `LOGGERS`."""
