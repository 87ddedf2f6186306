"""A page parsed into a tape: flat arrays of elements and texts in document order.

The tokenizer and the tree's rules run as machine code over bytes, in time linear in the page and
without recursion, so that depth, width and size cost nothing but memory. It follows the HTML
standard where pages depend on it (void and raw elements, implied ends of paragraphs, items, rows
and cells, scopes of tables) and not where it moves nodes about: nothing is moved or copied.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus.extract.html_names import BLOCK as BLOCK_TAGS
from corpus.extract.html_names import (
    CLOSES_P,
    FNV_OFFSET,
    FNV_PRIME,
    FOREIGN,
    RAW_TEXT,
    SCOPE,
    TAG,
    TAG_HASHES,
    TAG_NUMBERS,
    VOID,
    named,
)
from corpus.jit import kernel

Ints = npt.NDArray[np.int32]

MAX_DEPTH = 2048
"""Elements nested deeper are kept, but as siblings at this depth."""
MAX_SEARCH = 300
"""How far up an end tag looks for its element; bounds the cost of unclosed elements."""

TEXT = TAG["#text"]
T_P, T_LI, T_UL, T_OL, T_DT, T_DD, T_DL = (TAG[n] for n in named("p li ul ol dt dd dl"))
T_TR, T_TD, T_TH, T_TABLE = (TAG[n] for n in ["tr", "td", "th", "table"])
T_THEAD, T_TBODY, T_TFOOT, T_CAPTION = (TAG[n] for n in ["thead", "tbody", "tfoot", "caption"])
T_OPTION, T_OPTGROUP, T_A, T_HTML, T_BODY, T_HEAD, T_MENU, T_DIR, T_SELECT, T_BR, T_PLAIN = (
    TAG[n]
    for n in [
        "option",
        "optgroup",
        "a",
        "html",
        "body",
        "head",
        "menu",
        "dir",
        "select",
        "br",
        "plaintext",
    ]
)
T_RT, T_RP, T_RB, T_BUTTON = (TAG[n] for n in ["rt", "rp", "rb", "button"])
H_FIRST, H_LAST = TAG["h1"], TAG["h6"]


@dataclass(frozen=True)
class Tape:
    """The nodes of a page in document order; node 0 is the root. All arrays are [nodes]."""

    source: bytes
    """The page, UTF-8."""
    tag: Ints
    """Tag number (`html_names.TAGS`); `TEXT` for text."""
    parent: Ints
    """Index of the element that holds the node; -1 for the root."""
    last: Ints
    """Index of the node's last descendant (its own where it has none)."""
    start: Ints
    """Byte at which an element's attributes, or a text, begin."""
    end: Ints
    """Byte after an element's attributes, or a text."""


def parse(page: bytes) -> Tape:
    """Parse UTF-8 HTML; every sequence of bytes is a page."""
    size = len(page)
    data = np.frombuffer(page or b"\0", np.uint8)
    room = min(2 * page.count(b"<") + 8, 2 * size + 8)
    arrays = _parse(
        data, size, room, TAG_HASHES, TAG_NUMBERS, VOID, RAW_TEXT, CLOSES_P, SCOPE, FOREIGN,
        BLOCK_TAGS,
    )  # fmt: skip
    return Tape(page, *arrays)


@kernel
def _is_space(byte: int) -> bool:
    return byte == 32 or (9 <= byte <= 13)


@kernel
def _lower(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte


@kernel
def _is_letter(byte: int) -> bool:
    return 97 <= _lower(byte) <= 122


@kernel
def _find(data, at: int, size: int, byte: int) -> int:  # type: ignore[no-untyped-def]
    while at < size and data[at] != byte:
        at += 1
    return at


@kernel
def _tag_number(data, start: int, end: int, hashes, numbers) -> int:  # type: ignore[no-untyped-def]
    value = np.uint64(FNV_OFFSET)
    for at in range(start, end):
        value = (value ^ np.uint64(_lower(data[at]))) * np.uint64(FNV_PRIME)
    found = np.searchsorted(hashes, value)
    if found < len(hashes) and hashes[found] == value:
        return numbers[found]
    return 0


@kernel
def _attributes_end(data, at: int, size: int) -> int:  # type: ignore[no-untyped-def]
    """The index of the `>` that ends a tag, quotes respected; `size` where there is none."""
    # A quote opens a value only after `=`, as in the standard: stray quotes are common.
    after_equals = False
    while at < size:
        byte = data[at]
        if byte == 62:
            return at
        if byte == 61:
            after_equals = True
        elif (byte == 34 or byte == 39) and after_equals:
            close = _find(data, at + 1, size, byte)
            if close >= size:
                return _find(data, at, size, 62)
            at = close
            after_equals = False
        elif not _is_space(byte):
            after_equals = False
        at += 1
    return size


@kernel
def _raw_end(data, at: int, size: int, name_start: int, name_end: int) -> int:  # type: ignore[no-untyped-def]
    """The index of `</name`; `size` where there is none."""
    length = name_end - name_start
    while at < size:
        at = _find(data, at, size, 60)
        if at + 2 + length <= size and data[at + 1] == 47:
            same = True
            for k in range(length):
                if _lower(data[at + 2 + k]) != _lower(data[name_start + k]):
                    same = False
                    break
            if same and (at + 2 + length == size or not _is_letter(data[at + 2 + length])):
                return at
        at += 1
    return size


@kernel
def _parse(data, size, room, hashes, numbers, void, raw, closes_p, scope, foreign, block):  # type: ignore[no-untyped-def]
    tag = np.zeros(room, np.int32)
    parent = np.zeros(room, np.int32)
    last = np.zeros(room, np.int32)
    start = np.zeros(room, np.int32)
    end = np.zeros(room, np.int32)
    stack = np.zeros(MAX_DEPTH + 1, np.int32)
    parent[0] = -1
    count = 1
    depth = 0  # stack[depth] is the open element
    at = 0
    while at < size:
        if count + 2 >= room:
            break
        # ---- text up to the next tag
        text = at
        while at < size:
            if data[at] == 60 and at + 1 < size:
                following = data[at + 1]
                if _is_letter(following) or following == 47 or following == 33 or following == 63:
                    break
            at += 1
        if at > text:
            tag[count] = TEXT
            parent[count] = stack[depth]
            last[count] = count
            start[count] = text
            end[count] = at
            count += 1
        if at >= size:
            break
        following = data[at + 1]
        # ---- comments, declarations, CDATA
        if following == 33 or following == 63:
            if at + 3 < size and data[at + 2] == 45 and data[at + 3] == 45:
                close = at + 4
                if close < size and data[close] == 62:
                    at = close + 1
                    continue
                while close < size:
                    close = _find(data, close, size, 62)
                    if close < size and data[close - 1] == 45 and data[close - 2] == 45:
                        break
                    if (
                        close < size
                        and data[close - 1] == 33
                        and data[close - 2] == 45
                        and data[close - 3] == 45
                    ):
                        break
                    close += 1
                if close >= size:  # never closed: a page cut short, or a lone mark
                    close = _find(data, at, size, 62)
                at = close + 1
                continue
            if (
                at + 9 <= size
                and data[at + 2] == 91
                and data[at + 3] == 67
                and data[at + 4] == 68
                and data[at + 8] == 91
            ):
                close = at + 9
                while close + 2 < size and not (
                    data[close] == 93 and data[close + 1] == 93 and data[close + 2] == 62
                ):
                    close += 1
                if close + 2 >= size:
                    close = size
                if close > at + 9:
                    tag[count] = TEXT
                    parent[count] = stack[depth]
                    last[count] = count
                    start[count] = at + 9
                    end[count] = close
                    count += 1
                at = min(size, close + 3)
                continue
            at = _find(data, at, size, 62) + 1
            continue
        # ---- end tags
        if following == 47:
            name = at + 2
            stop = name
            while stop < size and not (
                _is_space(data[stop]) or data[stop] == 62 or data[stop] == 47
            ):
                stop += 1
            close = _find(data, stop, size, 62)
            if stop == name:
                at = close + 1
                continue
            number = _tag_number(data, name, stop, hashes, numbers)
            if number == T_BR:  # </br> is <br>
                tag[count] = T_BR
                parent[count] = stack[depth]
                last[count] = count
                start[count] = close
                end[count] = close
                count += 1
            elif number != T_HTML and number != T_BODY:
                is_inline = not block[number] and number != T_A and number != 0
                level = depth
                lowest = max(0, depth - MAX_SEARCH)
                while level > lowest:
                    open_tag = tag[stack[level]]
                    if open_tag == number and (
                        number != 0 or _same_name(data, start[stack[level]], name, stop)
                    ):
                        for closed in range(level, depth + 1):
                            last[stack[closed]] = count - 1
                        depth = level - 1
                        break
                    if H_FIRST <= number <= H_LAST and H_FIRST <= open_tag <= H_LAST:
                        for closed in range(level, depth + 1):
                            last[stack[closed]] = count - 1
                        depth = level - 1
                        break
                    if is_inline and block[open_tag]:
                        break
                    if scope[open_tag] and not _closes_table_part(number):
                        break
                    if open_tag == T_TABLE and number != T_TABLE:
                        break
                    level -= 1
            at = close + 1
            continue
        # ---- start tags
        name = at + 1
        stop = name
        while stop < size and not (_is_space(data[stop]) or data[stop] == 62 or data[stop] == 47):
            stop += 1
        number = _tag_number(data, name, stop, hashes, numbers)
        close = _attributes_end(data, stop, size)
        if close >= size and number == 0:
            at = close
            continue
        depth = _implied_ends(tag, last, stack, depth, number, count, closes_p, scope)
        is_closed = close > stop and close <= size and data[close - 1] == 47
        tag[count] = number
        parent[count] = stack[depth]
        last[count] = count
        # For unknown elements the name itself lies before the attributes.
        start[count] = stop if number else name
        end[count] = min(close, size)
        at = min(close + 1, size)
        node = count
        count += 1
        if void[number] or (is_closed and (foreign[number] or number == 0)):
            continue
        if raw[number]:
            stop_at = size if number == T_PLAIN else _raw_end(data, at, size, name, stop)
            if stop_at >= size and number != T_PLAIN:
                stop_at = at  # never closed: its content is the page
            if stop_at > at:
                tag[count] = TEXT
                parent[count] = node
                last[count] = count
                start[count] = at
                end[count] = stop_at
                last[node] = count
                count += 1
            at = (
                min(_find(data, stop_at, size, 62) + 1, size)
                if stop_at > at
                or (
                    stop_at < size
                    and data[stop_at] == 60
                    and stop_at + 1 < size
                    and data[stop_at + 1] == 47
                )
                else at
            )
            continue
        if depth < MAX_DEPTH:
            depth += 1
            stack[depth] = node
    for level in range(depth + 1):
        last[stack[level]] = count - 1
    return tag[:count], parent[:count], last[:count], start[:count], end[:count]


@kernel
def _same_name(data, own: int, name: int, stop: int) -> bool:  # type: ignore[no-untyped-def]
    for k in range(stop - name):
        if _lower(data[own + k]) != _lower(data[name + k]):
            return False
    return not (_is_letter(data[own + stop - name]) or data[own + stop - name] == 45)


@kernel
def _closes_table_part(number: int) -> bool:
    return number in (T_TABLE, T_TR, T_TD, T_TH, T_THEAD, T_TBODY, T_TFOOT, T_CAPTION)


@kernel
def _implied_ends(tag, last, stack, depth, number, count, closes_p, scope):  # type: ignore[no-untyped-def]
    """Close the elements that a start tag ends without saying so; the new depth."""
    if closes_p[number]:
        depth = _close(tag, last, stack, depth, count, T_P, T_P, scope, T_BUTTON, T_BUTTON)
    if number == T_LI:
        depth = _close(tag, last, stack, depth, count, T_LI, T_LI, scope, T_UL, T_OL)
    elif number in (T_DT, T_DD):
        depth = _close(tag, last, stack, depth, count, T_DT, T_DD, scope, T_DL, T_DL)
    elif number in (T_OPTION, T_OPTGROUP):
        depth = _close(
            tag, last, stack, depth, count, T_OPTION, T_OPTION, scope, T_SELECT, T_SELECT
        )
    elif number == T_A:
        depth = _close(tag, last, stack, depth, count, T_A, T_A, scope, T_A, T_A)
    elif H_FIRST <= number <= H_LAST and H_FIRST <= tag[stack[depth]] <= H_LAST:
        last[stack[depth]] = count - 1
        depth -= 1
    elif number in (T_RT, T_RP, T_RB):
        if tag[stack[depth]] == T_RT or tag[stack[depth]] == T_RP or tag[stack[depth]] == T_RB:
            last[stack[depth]] = count - 1
            depth -= 1
    elif number in (T_TD, T_TH, T_TR, T_THEAD, T_TBODY, T_TFOOT):
        # Back to the row (for cells) or the table (for the rest) that is open.
        level = depth
        lowest = max(0, depth - MAX_SEARCH)
        while level > lowest:
            open_tag = tag[stack[level]]
            if open_tag == T_TABLE:
                break
            is_target = open_tag == T_TR and (number in (T_TD, T_TH))
            is_target = is_target or (number == T_TR and (open_tag in (T_TBODY, T_THEAD, T_TFOOT)))
            if is_target:
                break
            level -= 1
        if level > lowest:
            for closed in range(level + 1, depth + 1):
                last[stack[closed]] = count - 1
            depth = level
    return depth


@kernel
def _close(tag, last, stack, depth, count, one, other, scope, border, border2):  # type: ignore[no-untyped-def]
    """Close the nearest open `one` or `other`, unless a scope or border lies between."""
    level = depth
    lowest = max(0, depth - MAX_SEARCH)
    while level > lowest:
        open_tag = tag[stack[level]]
        if open_tag in (one, other):
            for closed in range(level, depth + 1):
                last[stack[closed]] = count - 1
            return level - 1
        if scope[open_tag] or open_tag in (border, border2):
            return depth
        level -= 1
    return depth
