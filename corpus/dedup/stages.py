"""The stages of deduplication, for the recipe."""

from corpus.dedup.exact import Exact
from corpus.dedup.minhash import MinHash
from corpus.dedup.paragraphs import Paragraphs
from corpus.dedup.signatures import Signatures
from corpus.dedup.spans import LongSpans

__all__ = ["Exact", "LongSpans", "MinHash", "Paragraphs", "Signatures"]
