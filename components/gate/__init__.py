"""The gate: is the candidate slower than the baseline, with a known error rate?"""
