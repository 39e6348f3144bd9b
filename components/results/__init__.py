"""What load generators wrote, as one table of requests and summaries computed from it."""
