"""Deploys both models to Vertex AI, load tests them and removes them again, whatever happens."""
