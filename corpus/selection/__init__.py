"""The last decision: which documents have a bucket to go to."""
