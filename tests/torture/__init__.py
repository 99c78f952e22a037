"""Faults made on purpose: damaged input, kills, machines that fail."""
