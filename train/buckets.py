"""The buckets that a mixture draws from: the train shards of one tag combination, end to end."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from corpus.settings import UserError
from tokenization.manifest import Manifest


@dataclass(frozen=True)
class Bucket:
    """What planning and sampling need to know of a bucket; where its bytes lie they do not."""

    name: str
    tags: Mapping[str, str]
    tokens: int
    """Of all its shards: the tape's length."""
    shard_count: int = 0
    """0 if the shards are imaginary."""
    digest: str = ""
    """128 bits, in hex, of the checksums and lengths of the shards in order."""
    shards: tuple[tuple[str, int], ...] = field(default=(), compare=False, repr=False)
    """Checksum and tokens of each shard in order; empty where only the digest is known."""

    @classmethod
    def of(cls, name: str, tags: Mapping[str, str], shards: Sequence[tuple[str, int]]) -> "Bucket":
        """The bucket of these shards: (checksum, tokens) of each, in order."""
        tokens = sum(tokens for _, tokens in shards)
        return cls(name, dict(tags), tokens, len(shards), _digest(shards), tuple(shards))

    def begins_with(self, earlier: "Bucket") -> bool:
        """Whether this is `earlier`, perhaps with shards added at the end."""
        first = self.shards[: earlier.shard_count]
        tokens = sum(tokens for _, tokens in first) if first else self.tokens
        digest = _digest(first) if first else self.digest
        return (tokens, digest) == (earlier.tokens, earlier.digest)


def buckets_of(manifest: Manifest) -> tuple[Bucket, ...]:
    """The manifest's train buckets that hold tokens, by name.

    Raises:
        UserError: the shards of a bucket disagree on its tags, or no bucket holds a token.
    """
    found = []
    for name, shards in sorted(manifest.buckets("train").items()):
        tags = shards[0].tags
        if any(shard.tags != tags for shard in shards):
            raise UserError(f"manifest.json: the shards of bucket {name} disagree on its tags")
        bucket = Bucket.of(name, tags, [(shard.sha256, shard.tokens) for shard in shards])
        if bucket.tokens:
            found.append(bucket)
    if not found:
        raise UserError("manifest.json: no train shard holds a token; there is nothing to draw")
    return tuple(found)


def imaginary_buckets(tokens: Mapping[str, int]) -> tuple[Bucket, ...]:
    """Buckets that have no shards yet, from `{"zh-general-law": 10_000_000_000, …}`.

    A name's three parts are its tags `lang`, `domain` and `kind`.

    Raises:
        UserError: a name has other than three parts.
    """
    found = []
    for name in sorted(tokens):
        parts = name.split("-")
        if len(parts) != 3:
            raise UserError(f"bucket '{name}': write <lang>-<domain>-<kind>")
        tags = dict(zip(("lang", "domain", "kind"), parts, strict=True))
        found.append(Bucket(name, tags, tokens[name]))
    return tuple(found)


def _digest(shards: Sequence[tuple[str, int]]) -> str:
    lines = "\n".join(f"{checksum} {tokens}" for checksum, tokens in shards)
    return hashlib.sha256(lines.encode()).hexdigest()[:32]
