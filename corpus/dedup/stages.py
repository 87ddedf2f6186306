"""The stages of deduplication, for the recipe: exact, signatures, and MinHash LSH."""

from corpus.dedup.exact import Exact
from corpus.dedup.minhash import MinHash
from corpus.dedup.signatures import Signatures

__all__ = ["Exact", "MinHash", "Signatures"]
