"""Readers of foreign container formats. Every size is checked against the file before anything is allocated."""
