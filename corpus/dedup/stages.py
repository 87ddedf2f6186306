"""The stages of deduplication, for the recipe: exact, signatures, MinHash LSH, paragraphs."""

from corpus.dedup.exact import Exact
from corpus.dedup.minhash import MinHash
from corpus.dedup.paragraphs import Paragraphs
from corpus.dedup.signatures import Signatures

__all__ = ["Exact", "MinHash", "Paragraphs", "Signatures"]
