"""Text to tokens, the way every classifier reads it: one compiled pass over UTF-8 bytes.

A token is one Han character, one punctuation mark or symbol, a run of letters, or a run of digits
(of which only the length is kept, up to four). Characters are folded first (`classifiers.fold`),
of a row of the same sign two are kept, and up to three spaces, symbols or invisible characters
between two Han characters are dropped, so that 赌-博, 賭 博 and 赌★博 read like 赌博.

The kernel yields each token's hash as fastText computes it, so that a model that fastText trained
on `token_text` can be applied to the hashes alone (`classifiers.scoring`).
"""

import functools

import numpy as np
import numpy.typing as npt

from classifiers.fold import DIGIT, HAN, LETTER, NOISE, PLANE, SINGLE, SKIPPED, folded, kinds
from corpus.jit import kernel

MAX_NOISE = 3  # characters between two Han characters that are taken for evasion
MAX_RUN = 24  # characters of a run of letters that make one token
MAX_DIGITS = 4
FNV_OFFSET = np.uint32(2166136261)  # fastText's Dictionary::hash is 32-bit FNV-1a
FNV_PRIME = np.uint32(16777619)
ZERO = 0x30


def token_text(text: str) -> str:
    """The tokens of `text`, joined by spaces: what fastText is trained on."""
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    codes = np.empty(len(data), np.uint32)
    size = decode(data, folded(), codes)
    starts = np.empty(size, np.int32)
    ends = np.empty(size, np.int32)
    hashes = np.empty(size, np.uint32)
    count = cut(codes[:size], kinds(), single_hashes(), hashes, starts, ends)
    table = kinds()
    tokens = []
    for start, end in zip(starts[:count].tolist(), ends[:count].tolist(), strict=True):
        first = int(codes[start])
        if first < PLANE and table[first] == DIGIT:
            tokens.append("0" * min(end - start, MAX_DIGITS))
        else:
            tokens.append(codes[start:end].tobytes().decode("utf-32-le", "replace"))
    return " ".join(tokens)


def token_hashes(text: str) -> npt.NDArray[np.uint32]:
    """uint32 [tokens]: the hash of each token of `text`."""
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    codes = np.empty(len(data), np.uint32)
    size = decode(data, folded(), codes)
    hashes = np.empty(size, np.uint32)
    starts = np.empty(size, np.int32)
    ends = np.empty(size, np.int32)
    return hashes[: cut(codes[:size], kinds(), single_hashes(), hashes, starts, ends)]


@functools.cache
def single_hashes() -> npt.NDArray[np.uint32]:
    """uint32 [65536]: the hash of each code point's UTF-8 bytes."""
    return _hash_plane()  # type: ignore[no-any-return]


@kernel
def decode(
    data: npt.NDArray[np.uint8], fold: npt.NDArray[np.uint16], codes: npt.NDArray[np.uint32]
) -> int:
    """Fill `codes` with the folded code points of the valid UTF-8 in `data`; return their number.

    data: uint8 [bytes]; fold: uint16 [65536]; codes: uint32 [>= bytes].
    """
    size = 0
    place = 0
    while place < len(data):
        byte = np.uint32(data[place])
        if byte < 0x80:
            code = byte
            place += 1
        elif byte < 0xE0:
            code = ((byte & 0x1F) << 6) | (data[place + 1] & 0x3F)
            place += 2
        elif byte < 0xF0:
            code = (
                ((byte & 0x0F) << 12) | ((data[place + 1] & 0x3F) << 6) | (data[place + 2] & 0x3F)
            )
            place += 3
        else:
            code = (
                ((byte & 0x07) << 18)
                | ((data[place + 1] & 0x3F) << 12)
                | ((data[place + 2] & 0x3F) << 6)
                | (data[place + 3] & 0x3F)
            )
            place += 4
        codes[size] = fold[code] if code < PLANE else code
        size += 1
    return size


@kernel
def cut(
    codes: npt.NDArray[np.uint32],
    kind: npt.NDArray[np.uint8],
    single: npt.NDArray[np.uint32],
    hashes: npt.NDArray[np.uint32],
    starts: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int32],
) -> int:
    """Cut folded code points into tokens; return how many there are.

    codes: uint32 [characters]; kind: uint8 [65536]; single: `single_hashes`. Filled, each at least
    [characters]: `hashes` (uint32, the hash of the token's UTF-8 bytes), `starts` and `ends`
    (int32, offsets in `codes`).
    """
    count = 0
    place = 0
    size = len(codes)
    after_han = False
    while place < size:
        code = codes[place]
        this = kind[code] if code < PLANE else np.uint8(SINGLE)
        if this == HAN:
            hashes[count] = single[code]
            starts[count] = place
            place += 1
            ends[count] = place
            count += 1
            after_han = True
            continue
        if this == SKIPPED:
            place += 1
            continue
        if this == NOISE:
            stop = place + 1
            if after_han:
                while stop < size and stop - place < MAX_NOISE and _is(codes[stop], kind, NOISE):
                    stop += 1
                if stop < size and _is(codes[stop], kind, HAN):
                    place = stop
                    continue
            if (
                code == 0x20
                or code == 0x09
                or code == 0x3000
                or (code >= 0x200B and code <= 0x200D)
            ):
                place += 1
                continue
            stop = place + 1
            digest = single[code]
        elif this == LETTER:
            stop = place
            digest = FNV_OFFSET
            while stop < size and stop - place < MAX_RUN and _is(codes[stop], kind, LETTER):
                digest = _hash_code(digest, codes[stop])
                stop += 1
        elif this == DIGIT:
            stop = place
            digest = FNV_OFFSET
            while stop < size and _is(codes[stop], kind, DIGIT):
                if stop - place < MAX_DIGITS:
                    digest = _hash_byte(digest, ZERO)
                stop += 1
        else:
            stop = place + 1
            digest = single[code] if code < PLANE else _hash_code(FNV_OFFSET, code)
        if (
            this in (NOISE, SINGLE)
            and count > 1
            and hashes[count - 1] == hashes[count - 2] == digest
        ):
            place = stop  # rulers and rows of signs: two say as much as fifty
            continue
        after_han = False
        hashes[count] = digest
        starts[count] = place
        ends[count] = stop
        count += 1
        place = stop
    return count


@kernel
def _is(code, kind, wanted):  # type: ignore[no-untyped-def]
    return code < PLANE and kind[code] == wanted


@kernel
def _hash_byte(digest, byte):  # type: ignore[no-untyped-def]
    # fastText takes bytes for signed: those from 0x80 on set the upper 24 bits before the xor.
    wide = np.uint32(byte) if byte < 0x80 else np.uint32(np.uint32(byte) | np.uint32(0xFFFFFF00))
    return np.uint32(np.uint32(digest ^ wide) * FNV_PRIME)


@kernel
def _hash_code(digest, code):  # type: ignore[no-untyped-def]
    if code < 0x80:
        return _hash_byte(digest, code)
    if code < 0x800:
        digest = _hash_byte(digest, 0xC0 | (code >> 6))
    else:
        if code < PLANE:
            digest = _hash_byte(digest, 0xE0 | (code >> 12))
        else:
            digest = _hash_byte(digest, 0xF0 | (code >> 18))
            digest = _hash_byte(digest, 0x80 | ((code >> 12) & 0x3F))
        digest = _hash_byte(digest, 0x80 | ((code >> 6) & 0x3F))
    return _hash_byte(digest, 0x80 | (code & 0x3F))


@kernel
def _hash_plane():  # type: ignore[no-untyped-def]
    table = np.empty(PLANE, np.uint32)
    for code in range(PLANE):
        table[code] = _hash_code(FNV_OFFSET, np.uint32(code))
    return table
