"""Bands and rows: how signatures become buckets, and how likely two documents are to share one.

`python -m corpus.dedup.bands --threshold 0.8` prints the choice and its S-curve.
"""

import argparse
import sys
from dataclasses import dataclass

import numba
import numpy as np

from corpus.dedup.kernels import U64, _mix64
from corpus.settings import UserError, command


@dataclass(frozen=True)
class Banding:
    """`bands` groups of `rows` signature values; documents that agree on a group share a bucket."""

    bands: int
    rows: int

    def probability(self, jaccard: float) -> float:
        """The chance that two documents of this similarity share a bucket (the S-curve)."""
        return 1.0 - (1.0 - jaccard**self.rows) ** self.bands


def choose_banding(threshold: float, recall: float, permutations: int) -> Banding:
    """The most rows (so the fewest false candidates) that reach `recall` at `threshold`.

    Raises:
        UserError: `permutations` are too few for that, whatever the rows.
    """
    for rows in range(permutations, 0, -1):
        agree = threshold**rows
        if agree >= recall:
            return Banding(1, rows)
        # 1 - (1 - agree)^bands >= recall; log1p, since `agree` may be below the last bit of 1.
        bands = np.ceil(np.log(1.0 - recall) / np.log1p(-agree) - 1e-9)
        if bands * rows <= permutations:
            return Banding(int(bands), rows)
    raise UserError(
        f"minhash: {permutations} permutations cannot give recall {recall} at threshold "
        f"{threshold}: raise `permutations` of the stage 'signatures', or lower `recall`"
    )


@numba.njit(cache=True, nogil=True)
def band_hashes(signatures, bands, rows, seeds):  # type: ignore[no-untyped-def]
    """64-bit hashes of each band of each signature, shape [documents, bands].

    `signatures` is uint32 [documents, permutations]; `seeds` uint64 [documents] keeps categories
    apart: documents of different seeds share no bucket.
    """
    out = np.empty((signatures.shape[0], bands), np.uint64)
    for d in range(signatures.shape[0]):
        for band in range(bands):
            h = _mix64(seeds[d] + U64(band + 1) * U64(0x9E3779B97F4A7C15))
            for row in range(rows):
                h = (h ^ U64(signatures[d, band * rows + row])) * U64(0xC2B2AE3D27D4EB4F)
                h ^= h >> U64(29)
            out[d, band] = _mix64(h)
    return out


@numba.njit(cache=True, nogil=True)
def sketches(signatures):  # type: ignore[no-untyped-def]
    """The lowest bit of the first 128 signature values, packed: uint64 [documents, 2].

    b-bit minwise hashing (Li and König 2010) with b = 1: two documents agree on a bit with
    probability (1 + Jaccard) / 2.
    """
    documents, permutations = signatures.shape
    out = np.zeros((documents, 2), np.uint64)
    for d in range(documents):
        for p in range(min(128, permutations)):
            out[d, p >> 6] |= U64(signatures[d, p] & 1) << U64(p & 63)
    return out


def sketch_radius(threshold: float, permutations: int) -> int:
    """The most differing sketch bits at which two documents are still compared.

    Four standard deviations above what documents at `threshold` are expected to differ in: of
    true pairs at the threshold itself, one in thirty thousand is lost.
    """
    bits = min(128, permutations)
    differ = (1.0 - threshold) / 2.0
    return min(bits, int(np.ceil(bits * differ + 4.0 * np.sqrt(bits * differ * (1.0 - differ)))))


@command
def main(arguments: list[str] | None = None) -> int:
    """Print the bands and rows for a threshold and a recall, and the resulting S-curve."""
    parser = argparse.ArgumentParser(
        prog="python -m corpus.dedup.bands",
        description="Show which bands and rows MinHash LSH will use, and what they will find.",
        epilog="Every candidate is verified afterwards: the curve is about what is missed, not "
        "about what is dropped wrongly, which is nothing.\n\nexample: "
        "python -m corpus.dedup.bands --threshold 0.7 --recall 0.99 --permutations 112",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threshold", type=float, default=0.8, help="Jaccard similarity (0.8)")
    parser.add_argument("--recall", type=float, default=0.99, help="wanted at it (0.99)")
    parser.add_argument("--permutations", type=int, default=112, help="signature length (112)")
    options = parser.parse_args(arguments)
    if not (0 < options.threshold <= 1 and 0 < options.recall < 1 and options.permutations > 0):
        raise UserError("--threshold and --recall lie between 0 and 1, --permutations above 0")
    banding = choose_banding(options.threshold, options.recall, options.permutations)
    print(describe(banding, options.threshold))
    return 0


def describe(banding: Banding, threshold: float) -> str:
    """The S-curve as lines of text."""
    lines = [
        f"{banding.bands} bands of {banding.rows} rows, threshold {threshold:g}",
        "Jaccard  candidate with probability",
    ]
    for step in range(2, 21):
        jaccard = step / 20
        chance = banding.probability(jaccard)
        mark = " <- threshold" if abs(jaccard - threshold) < 1e-9 else ""
        lines.append(f"   {jaccard:.2f}  {chance:8.5f}  {'#' * round(40 * chance)}{mark}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
