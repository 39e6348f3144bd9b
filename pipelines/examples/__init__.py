"""Whole pipelines with the gate in them; each is run or compiled by a test."""
