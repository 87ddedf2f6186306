"""A tape cut into blocks of text, and what can be counted of them, as machine code.

A block is the inline content between two block boundaries: a paragraph, an item, a cell, a
heading. Its size is measured in tokens: words, and each Han, kana or Hangul sign by itself.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus.extract.html_names import BLOCK, TAG, TAGS
from corpus.extract.html_tape import TEXT, Ints, Tape, _is_letter, _is_space
from corpus.jit import kernel

SKIPPED = np.zeros(len(TAGS), np.bool_)
SKIPPED[
    [
        TAG[name]
        for name in [
            "script",
            "style",
            "template",
            "iframe",
            "object",
            "embed",
            "param",
            "canvas",
            "svg",
            "select",
            "textarea",
            "datalist",
            "title",
            "noscript",
            "audio",
            "video",
            "map",
            "applet",
            "frame",
            "frameset",
            "noframes",
            "noembed",
            "head",
            "meta",
            "link",
            "rp",
            "progress",
            "meter",
            "annotation",
            "annotation-xml",
            "mjx-assistive-mml",
        ]
    ]
] = True
"""Elements whose text nobody reads. What math and noscript hold is looked at by itself."""
UNSEEN = np.isin(np.arange(len(TAGS)), [TAG[n] for n in ("noscript", "style", "template")])
"""Of the skipped elements, those that take no place: the line around them goes on."""
FORMULA_TOKENS = 12
T_A, T_BR, T_BUTTON = TAG["a"], TAG["br"], TAG["button"]


@dataclass(frozen=True)
class Blocks:
    """The blocks of a page, in document order; every array is [blocks]."""

    first: Ints
    """Index of the block's first node in the tape."""
    last: Ints
    """Index of its last node."""
    owner: Ints
    """The innermost block element around it."""
    tokens: Ints
    link_tokens: Ints
    """Tokens inside `a` elements."""
    stops: Ints
    """Marks that end a sentence: 。！？；… and .!?; before a space or the end."""
    commas: Ints
    digits: Ints
    """Digits, as signs."""
    closes: Ints
    """1 where the last sign ends a sentence or introduces something (colon)."""
    hashes: npt.NDArray[np.uint64]
    """A hash of the letters and digits, the same for the same text."""


def blocks(
    tape: Tape,
    skip: npt.NDArray[np.bool_],
    formulas: npt.NDArray[np.bool_],
    whole: npt.NDArray[np.bool_],
) -> Blocks:
    """Cut a page into blocks, leaving out the nodes that `skip` marks.

    A node that `formulas` marks counts as a few tokens whatever it holds; what lies inside a node
    that `whole` marks (code) is one block, which it owns.
    """
    data = np.frombuffer(tape.source or b"\0", np.uint8)
    counted = _blocks(
        data, tape.tag, tape.parent, tape.last, tape.start, tape.end, skip, BLOCK, formulas, whole
    )
    return Blocks(*counted)


@kernel
def _is_space_entity(data, start: int, end: int) -> bool:  # type: ignore[no-untyped-def]
    """Is `data[start:end]`, an entity without its semicolon, the space that does not break?"""
    one, two, three = data[start + 1], data[start + 2], data[start + 3]
    if end - start == 5 and one == 110:  # &nbsp
        return two == 98
    is_number = one == 35 and end - start == 5
    return is_number and ((two == 49 and three == 54) or (two | 32 == 120 and three | 32 == 97))


@kernel
def _blocks(data, tag, parent, last, start, end, skip, is_block, formulas, whole):  # type: ignore[no-untyped-def]
    nodes = len(tag)
    room = nodes + 1
    first_node = np.zeros(room, np.int32)
    last_node = np.zeros(room, np.int32)
    owners = np.zeros(room, np.int32)
    tokens = np.zeros(room, np.int32)
    links = np.zeros(room, np.int32)
    stops = np.zeros(room, np.int32)
    commas = np.zeros(room, np.int32)
    digits = np.zeros(room, np.int32)
    closes = np.zeros(room, np.int32)
    hashes = np.full(room, np.uint64(0xCBF29CE484222325))
    owner = np.zeros(nodes, np.int32)  # of each node: the innermost block element around it
    in_link = np.zeros(nodes, np.bool_)
    dead = np.zeros(nodes, np.bool_)
    inside = np.zeros(nodes, np.bool_)  # of a node that is one block
    count = 0
    current = -1
    in_word = False
    for node in range(1, nodes):
        up = parent[node]
        number = tag[node]
        dead[node] = dead[up] or skip[node] or formulas[up]
        inside[node] = inside[up] or whole[up]
        in_link[node] = in_link[up] or tag[up] == T_A or tag[up] == T_BUTTON
        owner[node] = (
            owner[up] if inside[up] else (up if is_block[tag[up]] or whole[up] else owner[up])
        )
        if formulas[node] and not (dead[up] or formulas[up]):
            dead[node] = False
            if current >= 0 and owner[node] != owners[current]:
                current = -1
            if current < 0:
                current = count
                first_node[current] = node
                owners[current] = owner[node]
                count += 1
            last_node[current] = last[node]
            tokens[current] += FORMULA_TOKENS
            stops[current] += 1
            in_word = False
            continue
        if dead[node]:
            if is_block[number] and not inside[node] and not UNSEEN[number]:
                current = -1
            continue
        if number != TEXT:
            if (is_block[number] and not inside[node]) or whole[node]:
                current = -1
            elif is_block[number] or number == T_BR:
                in_word = False
            continue
        if current >= 0 and owner[node] != owners[current]:
            current = -1
        # ---- count the text
        t = 0
        has_text = False
        s = c = d = 0
        final = 0
        at, stop = start[node], end[node]
        value = hashes[current] if current >= 0 else np.uint64(0xCBF29CE484222325)
        for k in range(at, stop):
            if data[k] > 64 or 48 <= data[k] <= 57:
                value = (value ^ np.uint64(data[k])) * np.uint64(0x100000001B3)
        while at < stop:
            byte = data[at]
            if byte < 128:
                if _is_letter(byte) or 48 <= byte <= 57:
                    if not in_word:
                        t += 1
                    in_word = True
                    d += 48 <= byte <= 57
                    final = 0
                    has_text = True
                elif _is_space(byte):
                    in_word = False
                else:
                    if byte == 38:  # an entity: no word, unless it is a sign of one
                        k = at + 1
                        while k < stop and k < at + 10 and data[k] != 59 and data[k] > 32:
                            k += 1
                        if k < stop and data[k] == 59:
                            if _is_space_entity(data, at, k):
                                in_word = False
                            else:
                                has_text = True
                            at = k + 1
                            continue
                    has_text = True
                    if byte != 39:
                        in_word = False
                    if byte == 46 or byte == 33 or byte == 63 or byte == 59:
                        final = 1
                        if (
                            at + 1 >= stop
                            or _is_space(data[at + 1])
                            or data[at + 1] == 34
                            or data[at + 1] > 127
                            or data[at + 1] == 60
                        ):
                            s += 1
                    elif byte == 44:
                        c += 1
                        final = 0
                    elif byte == 58:
                        final = 1
                    elif byte != 34 and byte != 41 and byte != 39:
                        final = 0
                at += 1
                continue
            if byte >= 0xE0 and byte < 0xF0 and at + 2 < stop:
                code = ((byte & 15) << 12) | ((data[at + 1] & 63) << 6) | (data[at + 2] & 63)
                at += 3
            elif byte >= 0xF0 and at + 3 < stop:
                code = 0x20000
                at += 4
            elif byte >= 0xC2 and at + 1 < stop:
                code = ((byte & 31) << 6) | (data[at + 1] & 63)
                at += 2
            else:
                code = 0xA0
                at += 1
            if code == 0xA0 or code == 0x3000 or 0x2000 <= code <= 0x200F or code == 0xFEFF:
                in_word = False
            elif 0x3001 <= code <= 0x303F or 0xFF01 <= code <= 0xFF65 or 0x2010 <= code <= 0x206F:
                has_text = True
                in_word = False
                if (
                    code == 0x3002
                    or code == 0xFF01
                    or code == 0xFF1F
                    or code == 0xFF1B
                    or code == 0x2026
                    or code == 0xFF0E
                ):
                    s += 1
                    final = 1
                elif code == 0xFF0C or code == 0x3001:
                    c += 1
                    final = 0
                elif code == 0xFF1A:
                    final = 1
                elif code != 0x201D and code != 0x300D and code != 0xFF09 and code != 0x300B:
                    final = 0
            elif 0x2E80 <= code <= 0xD7A3 or 0xF900 <= code <= 0xFAFF or code >= 0x20000:
                has_text = True
                in_word = False
                t += 1
                final = 0
            else:
                has_text = True
                if not in_word:
                    t += 1
                in_word = True
                final = 0
        if not has_text and (current < 0 or t == 0):
            in_word = False
            if current < 0:
                continue
        if current < 0:
            current = count
            first_node[current] = node
            owners[current] = owner[node]
            count += 1
            in_word = False
        last_node[current] = node
        hashes[current] = value
        tokens[current] += t
        if in_link[node]:
            links[current] += t
        stops[current] += s
        commas[current] += c
        digits[current] += d
        if has_text:
            closes[current] = final
    return (
        first_node[:count], last_node[:count], owners[:count], tokens[:count], links[:count],
        stops[:count], commas[:count], digits[:count], closes[:count],
        hashes[:count],
    )  # fmt: skip
