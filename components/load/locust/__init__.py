"""Locust as a load generator: a process of its own, since importing Locust patches the process it is in."""
