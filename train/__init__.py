"""Shards and a mixture schedule to checkpoints."""
