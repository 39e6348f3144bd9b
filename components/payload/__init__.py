"""Valid, varied requests for a model, made from its signature."""
