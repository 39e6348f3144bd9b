"""Driving one or two model servers with a load generator, open loop and bounded."""
