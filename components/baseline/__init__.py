"""Fingerprints of runs, and the stores in which earlier runs are found again."""
