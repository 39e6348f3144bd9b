"""Load from several pods at once: an Indexed Job of generators, started together, their rows merged."""
