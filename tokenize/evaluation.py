"""What a vocabulary is worth and whether it is exact: the numbers of the vocabulary's report.

Two promises are checked, not assumed: lines without Han characters keep their ids, and the
Hugging Face tokenizer gives sentencepiece's ids, on the corpus and on made-up strings.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import sentencepiece
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from tokenizers import Tokenizer

from corpus.settings import Settings
from tokenization.pieces import CJK_PUNCTUATION, SPACE, is_han
from tokenization.sample import SampledDocument


class BucketCounts(Settings):
    """What the base and the new vocabulary make of a bucket's sample."""

    documents: NonNegativeInt
    characters: NonNegativeInt
    tokens_before: NonNegativeInt
    tokens_after: NonNegativeInt
    tokens_per_character_before: NonNegativeFloat
    tokens_per_character_after: NonNegativeFloat
    characters_per_token_before: NonNegativeFloat
    characters_per_token_after: NonNegativeFloat
    byte_fallback_before: NonNegativeFloat
    """Share of the tokens that are bytes of characters without a piece."""
    byte_fallback_after: NonNegativeFloat


class Parity(Settings):
    """How often two things that must be equal are."""

    compared: NonNegativeInt
    equal: NonNegativeInt
    share: float | None
    """Null where there was nothing to compare."""
    first_difference: str | None = None


class Learning(Settings):
    """What the new pieces save, against what it takes to learn them.

    The saving is measured; that a row is learnt once its piece was seen `seen_times` is a rule of
    thumb. "LLaMA Beyond English" (2024) found an extended model after 30 billion tokens behind a
    plain one after half a billion: saved tokens alone do not decide.
    """

    tokens_saved: float
    """Share of the sample's tokens that the new vocabulary does without."""
    seen_times: PositiveInt = 1_000
    tokens_until_half_are_learnt: float | None
    """Training tokens (new vocabulary, mixed like the sample) until half of the new pieces were
    seen so often; null if half of them are not in the sample at all."""
    tokens_until_95_percent_are_learnt: float | None
    tokens_to_break_even: float | None
    """Training tokens (old vocabulary) whose saving equals the tokens that half the pieces take."""
    never_used: NonNegativeInt
    """New pieces that the sample does not use."""


class Evaluation(Settings):
    """All that is measured on a sample and on made-up strings."""

    buckets: dict[str, BucketCounts]
    english_lines_unchanged: Parity
    """Lines of the sample without Han characters or CJK punctuation: the same ids as before."""
    hugging_face_parity: Parity
    """Texts of the sample: sentencepiece's ids and the Hugging Face tokenizer's."""
    hugging_face_fuzz_parity: Parity
    """The same on made-up strings."""
    round_trip: Parity
    """Texts that decoding gives back (but for ▁, which sentencepiece itself reads as a space)."""
    new_pieces_used: dict[str, NonNegativeInt]
    """How often each new piece stands in the sample."""
    learning: Learning

    def failures(self) -> list[str]:
        """The promises that are broken, in words; empty if all is well."""
        checks = {
            "lines without Han that change their ids": self.english_lines_unchanged,
            "texts that Hugging Face encodes otherwise": self.hugging_face_parity,
            "made-up strings that Hugging Face encodes otherwise": self.hugging_face_fuzz_parity,
        }
        return [
            f"{parity.compared - parity.equal} of {parity.compared} {name}, first "
            f"{parity.first_difference!r}"
            for name, parity in checks.items()
            if parity.equal < parity.compared
        ]


@dataclass(frozen=True)
class Codec:
    """A tokenizer as the evaluation needs it."""

    encode: Callable[[Sequence[str]], list[list[int]]]
    decode: Callable[[list[list[int]]], list[str]]
    is_byte: Callable[[int], bool]

    @staticmethod
    def of_sentencepiece(model: sentencepiece.SentencePieceProcessor) -> "Codec":
        """A sentencepiece model, without BOS and EOS."""
        return Codec(lambda texts: model.encode(list(texts)), model.decode, model.is_byte)

    @staticmethod
    def of_hugging_face(tokenizer: Tokenizer) -> "Codec":
        """A `tokenizers` object, without BOS and EOS; its byte-level pieces are no fallback."""
        return Codec(
            lambda texts: encode_all(tokenizer, texts),
            lambda rows: tokenizer.decode_batch(rows, skip_special_tokens=False),
            lambda _: False,
        )


def evaluate(
    sample: Sequence[SampledDocument],
    base: Codec,
    extended: Codec,
    hugging_face: Tokenizer,
    new_pieces: Mapping[str, int],
    seed: int,
) -> Evaluation:
    """Measure `extended` against `base`, and `hugging_face` against `extended`.

    Args:
        new_pieces: the pieces that `extended` has and `base` has not, with their ids.
        seed: of the made-up strings.
    """
    texts = [document.text for document in sample]
    before, after = base.encode(texts), extended.encode(texts)
    fuzz = fuzzed_strings(texts, list(new_pieces), seed)
    lines = plain_lines(texts)
    spaced = [text.replace(SPACE, " ") for text in texts]
    decoded = [text.replace(SPACE, " ") for text in extended.decode(after)]
    counts = Counter(number for ids in after for number in ids)
    used = {piece: counts.get(number, 0) for piece, number in new_pieces.items()}
    return Evaluation(
        buckets=_by_bucket(sample, before, after, base, extended),
        english_lines_unchanged=_parity(lines, base.encode(lines), extended.encode(lines)),
        hugging_face_parity=_parity(texts, after, encode_all(hugging_face, texts)),
        hugging_face_fuzz_parity=_parity(
            fuzz, extended.encode(fuzz), encode_all(hugging_face, fuzz)
        ),
        round_trip=_parity(texts, decoded, spaced),
        new_pieces_used=used,
        learning=learning_of(sum(map(len, before)), sum(map(len, after)), list(used.values())),
    )


def learning_of(tokens_before: int, tokens_after: int, used: Sequence[int]) -> Learning:
    saved = 1 - tokens_after / tokens_before if tokens_before else 0.0
    seen_times = 1_000

    def until(share: float) -> float | None:
        """Training tokens until this share of the pieces was seen often enough."""
        if not used:
            return None
        count = sorted(used, reverse=True)[math.ceil(share * len(used)) - 1]
        return round(seen_times * tokens_after / count) if count else None

    half = until(0.5)
    return Learning(
        tokens_saved=round(saved, 6),
        seen_times=seen_times,
        tokens_until_half_are_learnt=half,
        tokens_until_95_percent_are_learnt=until(0.95),
        tokens_to_break_even=round(half / saved) if half is not None and saved > 0 else None,
        never_used=sum(count == 0 for count in used),
    )


def encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Ids without BOS or EOS, special strings taken as text."""
    tokenizer.encode_special_tokens = True
    return [encoded.ids for encoded in tokenizer.encode_batch(texts, add_special_tokens=False)]


def plain_lines(texts: Iterable[str], limit: int = 50_000) -> list[str]:
    """Lines with letters of which none is Han, and without CJK punctuation; at most `limit`."""
    found = []
    for text in texts:
        for line in text.splitlines():
            lettered = any(character.isalpha() for character in line)
            if lettered and (line.isascii() or not any(map(_is_chinese, line))):
                found.append(line)
                if len(found) == limit:
                    return found
    return found


def _is_chinese(character: str) -> bool:
    return is_han(character) or character in CJK_PUNCTUATION


def fuzzed_strings(
    texts: Sequence[str], new_pieces: Sequence[str], seed: int, count: int = 5_000
) -> list[str]:
    """Made-up strings that mix what breaks tokenizers.

    Spaces of all kinds, digits, rare scripts, emoji, control characters, special strings, bytes
    that look like pieces, new pieces next to each other, and cuts of the corpus.
    """
    rng = random.Random(seed)
    odd = [
        " ", "  ", "    ", "\t", "\n", "\r\n", "\u3000", "\u00a0", "\u2581", "\u200b", "\ufeff",
        "</s>", "<s>", "<unk>", "<0x0A>", "[INST]", "0", "1", "2024", "3.14", "１２", "%", "，",
        "。", "“", "a", "the", " the", "ing", "É", "ß", "ñ", "の", "한", "é", "😀", "\x00",
        "👩\u200d👧", "\x07", "\ue000", "\U0001d400", "𠀀", "々", "〇", "㈠", "①", "Ａ",
    ]  # fmt: skip
    strings = ["", " ", "\n", "\u2581", " \u2581 "]
    while len(strings) < count:
        parts = []
        for _ in range(rng.randint(1, 12)):
            kind = rng.random()
            if kind < 0.4 or not texts:
                parts.append(rng.choice(odd))
            elif kind < 0.6 and new_pieces:
                parts.append(rng.choice(new_pieces))
            elif kind < 0.7:
                code = rng.randrange(0x20, 0x30000)
                parts.append("" if 0xD800 <= code < 0xE000 else chr(code))
            else:
                text = rng.choice(texts)
                start = rng.randrange(len(text) + 1)
                parts.append(text[start : start + rng.randint(1, 20)])
        strings.append("".join(parts))
    return strings


def _by_bucket(
    sample: Sequence[SampledDocument],
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    base: Codec,
    extended: Codec,
) -> dict[str, BucketCounts]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, document in enumerate(sample):
        numbers[document.bucket].append(number)
    found = {}
    for bucket, members in sorted(numbers.items()):
        characters = sum(len(sample[k].text) for k in members)
        old = [number for k in members for number in before[k]]
        new = [number for k in members for number in after[k]]
        found[bucket] = BucketCounts(
            documents=len(members),
            characters=characters,
            tokens_before=len(old),
            tokens_after=len(new),
            tokens_per_character_before=_share(len(old), characters),
            tokens_per_character_after=_share(len(new), characters),
            characters_per_token_before=_share(characters, len(old)),
            characters_per_token_after=_share(characters, len(new)),
            byte_fallback_before=_share(sum(map(base.is_byte, old)), len(old)),
            byte_fallback_after=_share(sum(map(extended.is_byte, new)), len(new)),
        )
    return found


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def _parity(texts: Sequence[str], left: Sequence[object], right: Sequence[object]) -> Parity:
    different = [text for text, one, other in zip(texts, left, right, strict=True) if one != other]
    equal = len(texts) - len(different)
    return Parity(
        compared=len(texts),
        equal=equal,
        share=equal / len(texts) if texts else None,
        first_difference=different[0][:200] if different else None,
    )
