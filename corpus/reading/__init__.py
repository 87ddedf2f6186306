"""From where documents lie (files, folders, archives, object storage) to RAW records on Spark."""

from corpus.reading.listing import sources_fingerprint
from corpus.reading.read import read_sources
from corpus.reading.source import Source

__all__ = ["Source", "read_sources", "sources_fingerprint"]
