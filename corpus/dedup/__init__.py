"""Deduplication: exact, then verified MinHash LSH within categories and across all of them."""
