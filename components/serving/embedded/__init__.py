"""A TF-Serving-compatible model server in Python, for laptops and tests."""
