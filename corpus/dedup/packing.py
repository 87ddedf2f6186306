"""Shingle sets in few bytes: sorted 32-bit hashes as differences, seven bits a byte (LEB128)."""

import numba
import numpy as np

from corpus.dedup.kernels import U32, U64


@numba.njit(cache=True, nogil=True)
def packed_sets(tokens, starts):  # type: ignore[no-untyped-def]
    """Pack sets of sorted 64-bit tokens, by their upper halves: (uint8 data, int64 bounds)."""
    documents = starts.size - 1
    bounds = np.zeros(documents + 1, np.int64)
    data = np.empty(5 * tokens.size, np.uint8)
    n = 0
    for d in range(documents):
        last = U32(0)
        for t in range(starts[d], starts[d + 1]):
            token = U32(tokens[t] >> U64(32))
            step = U32(token - last)
            if t > starts[d] and step == 0:
                continue
            last = token
            while step >= U32(0x80):
                data[n] = (step & U32(0x7F)) | U32(0x80)
                step = U32(step >> U32(7))
                n += 1
            data[n] = step
            n += 1
        bounds[d + 1] = n
    return data[:n], bounds


@numba.njit(cache=True, nogil=True)
def unpacked_sets(data, bounds, tokens, starts, packed):  # type: ignore[no-untyped-def]
    """Sets of 32-bit tokens: document d is unpacked from `data` where `packed`[d], else it is
    `tokens`[starts[d]:starts[d + 1]] cut to the upper halves. Returns (uint64 tokens, starts).
    """
    documents = starts.size - 1
    out = np.empty(data.size + tokens.size, np.uint64)
    ends = np.zeros(documents + 1, np.int64)
    n = 0
    for d in range(documents):
        first = n
        if packed[d]:
            token = U64(0)
            step = U64(0)
            shift = U64(0)
            for b in range(bounds[d], bounds[d + 1]):
                step |= U64(data[b] & 0x7F) << shift
                shift += U64(7)
                if data[b] < 0x80:
                    token += step
                    out[n] = token
                    n += 1
                    step = U64(0)
                    shift = U64(0)
        else:
            for t in range(starts[d], starts[d + 1]):
                token = tokens[t] >> U64(32)
                if n == first or out[n - 1] != token:
                    out[n] = token
                    n += 1
        ends[d + 1] = n
    return out[:n], ends


@numba.njit(cache=True, nogil=True)
def pieces(data, starts, bounds):  # type: ignore[no-untyped-def]
    """Pieces of `data`, one after the other: the i-th, from starts[i] on, fills
    [bounds[i], bounds[i + 1]) of what comes back.
    """
    out = np.empty(bounds[-1], np.uint8)
    for i in range(starts.size):
        for b in range(bounds[i + 1] - bounds[i]):
            out[bounds[i] + b] = data[starts[i] + b]
    return out
