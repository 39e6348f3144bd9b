"""A TFX pipeline: will a taxi's passenger tip well? Trained, load tested, and pushed if it is fast enough."""
