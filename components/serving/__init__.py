"""Model servers: deployed, reused, or embedded for laptops and tests."""
