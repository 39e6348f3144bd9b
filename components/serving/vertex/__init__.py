"""Servers on Vertex AI: uploaded, deployed to endpoints of their own, found again, and removed."""
