"""The hard cases, in one process: what Spark's workers run, without Spark around it."""

import random

import numpy as np
import pyarrow as pa

from corpus.dedup.bands import band_hashes, choose_banding, sketch_radius, sketches
from corpus.dedup.keeping import Keeping, sort_keys
from corpus.dedup.links import NO_LIMIT, groups, link_records, spanning_forest
from corpus.dedup.minhash import MinHashConfig, banding_of, lowest_jaccard
from corpus.dedup.normal import Shingling
from corpus.dedup.resolve import NEVER, Comparison, pairs, resolve
from corpus.dedup.signatures import SignaturesConfig, sign, signature_matrix

ALPHABET = [chr(0x4E00 + i) for i in range(3000)]


def prose(rng: random.Random, length: int) -> str:
    return "".join(rng.choice(ALPHABET) for _ in range(length))


def candidates(texts: pa.Array, threshold: float, largest: int = NO_LIMIT) -> pa.Table:
    """The documents in groups, as the stage's tasks get them."""
    minhash, counts = sign(texts, SignaturesConfig())
    signed = np.flatnonzero(counts.to_numpy())
    matrix = signature_matrix(minhash.drop_null(), 112)
    banding = choose_banding(threshold, 0.99, 112)
    hashes = band_hashes(matrix, banding.bands, banding.rows, np.zeros(len(matrix), np.uint64))
    keys = np.repeat(signed, banding.bands)
    sketch = np.repeat(sketches(matrix), banding.bands, axis=0)
    stored = np.zeros(len(keys), np.bool_)
    radius = sketch_radius(threshold, 112)
    links, names, _ = link_records(hashes.ravel(), keys, sketch, stored, radius)
    return pa.table(
        {
            "doc_id": [f"{name:06d}" for name in names],
            "text": texts.take(names),
            "group": names[groups(links, len(names), largest)],
            "priority": np.zeros(len(names), np.int32),
            "date": pa.nulls(len(names), pa.string()),
        }
    )


def comparison(threshold: float = 0.8, containment: float = NEVER) -> Comparison:
    return Comparison(sort_keys(Keeping()), threshold, containment, Shingling())


def test_a_star_of_a_hundred_thousand_copies() -> None:
    rng = random.Random(1)
    text = prose(rng, 60)
    texts = pa.array([text] * 100_000 + [prose(rng, 60)])
    table = candidates(texts, 0.8)
    assert len(table) == 100_000
    dropped = resolve(table, comparison())
    assert len(dropped) == 99_999
    assert dropped["kept"].unique().to_pylist() == ["000000"]
    assert dropped["similarity"].unique().to_pylist() == [1.0]


def test_a_template_filled_ten_thousand_times_is_not_swallowed() -> None:
    # 200 characters of template and three slots of 8: J is about 200 / 324, below the threshold.
    rng = random.Random(2)
    head, middle, tail = (prose(rng, 50) for _ in range(3))
    texts = [
        head + prose(rng, 16) + middle + prose(rng, 16) + tail + prose(rng, 16)
        for _ in range(10_000)
    ]
    texts[5_000] = texts[3][:-1] + "改"
    dropped = resolve(candidates(pa.array(texts), 0.8), comparison())
    assert dropped["doc_id"].to_pylist() == ["005000"]
    assert dropped["kept"].to_pylist() == ["000003"]


def test_giants_are_parted_at_their_weakest_links() -> None:
    # Two tight families of 30 and one weak link between them.
    links = [(1, 0, n) for n in range(1, 30)] + [(1, 30, n) for n in range(31, 60)] + [(20, 5, 40)]
    links = np.array(links)
    assert len(np.unique(groups(links, 60, NO_LIMIT))) == 1
    parted = groups(links, 60, 40)
    assert (parted[:30] == 0).all()
    assert (parted[30:] == 30).all()
    star = np.array([(1, 0, n) for n in range(1, 60)])
    assert np.bincount(groups(star, 60, 40)).tolist() == [40] + [0] * 39 + [20]


def test_a_forest_of_forests_is_the_forest() -> None:
    rng = np.random.default_rng(3)
    links = np.column_stack([rng.integers(0, 5, 400), rng.integers(0, 80, (400, 2))])
    links = links[links[:, 1] != links[:, 2]]
    links[:, 1:].sort(axis=1)
    whole = spanning_forest(np.unique(links, axis=0), 80)
    for _ in range(3):
        rng.shuffle(links)
        halves = [spanning_forest(half, 80) for half in np.array_split(links, 3)]
        assert spanning_forest(np.concatenate(halves), 80).tolist() == whole.tolist()


def test_a_group_is_decided_alike_with_and_without_an_index() -> None:
    rng = random.Random(4)
    base = prose(rng, 150)
    texts = []
    for _ in range(300):
        copy = list(base)
        for place in rng.sample(range(150), rng.randint(0, 6)):
            copy[place] = rng.choice(ALPHABET)
        texts.append("".join(copy))
    sets = [{text[i : i + 5] for i in range(146)} for text in texts]

    def jaccard(a: int, b: int) -> float:
        return len(sets[a] & sets[b]) / len(sets[a] | sets[b])

    table = pa.table(
        {
            "doc_id": [f"{n:06d}" for n in range(300)],
            "text": texts,
            "group": np.zeros(300, np.int64),
            "priority": np.zeros(300, np.int32),
            "date": pa.nulls(300, pa.string()),
        }
    )
    how = Comparison([("doc_id", "ascending")], 0.8, NEVER, Shingling())
    dropped = resolve(table, how)
    kept: list[int] = []
    expected = {}
    for n in range(300):
        similar = [(jaccard(n, k), -k) for k in kept if jaccard(n, k) >= 0.8]
        if similar:
            expected[n] = max(similar)
        else:
            kept.append(n)
    rows = zip(*(dropped[c].to_pylist() for c in ("doc_id", "similarity", "kept")), strict=True)
    assert {int(d): (s, -int(k)) for d, s, k in rows} == expected
    found = pairs(table, how)
    assert len(found) == sum(jaccard(a, b) >= 0.8 for a in range(300) for b in range(a))

    small = table.slice(0, 60)  # below ALL_AGAINST_ALL: no index
    assert sorted(resolve(small, how)["doc_id"].to_pylist()) == [
        f"{n:06d}" for n in sorted(expected) if n < 60
    ]


def test_a_truncated_copy_never_wins() -> None:
    text = prose(random.Random(5), 500)
    for size in (1, 70):  # without and with an index
        texts = [text[:430], *[text] * size, text[:450]]
        table = pa.table(
            {
                "doc_id": [str(n).zfill(3) for n in range(len(texts))],
                "text": texts,
                "group": np.zeros(len(texts), np.int64),
                "priority": np.zeros(len(texts), np.int32),
                "date": ["2024", *["2020"] * size, "2025"],
            }
        )
        dropped = resolve(table, comparison())
        assert sorted(set(dropped["kept"].to_pylist())) == ["001"]
        assert len(dropped) == size + 1


def test_a_quote_is_contained_in_the_longer_article() -> None:
    rng = random.Random(6)
    quote = prose(rng, 200)
    article = prose(rng, 500) + quote + prose(rng, 500)
    other = [prose(rng, 400) for _ in range(70)]
    for filler in ([], other):
        texts = [quote, article, *filler]
        table = pa.table(
            {
                "doc_id": [str(n).zfill(3) for n in range(len(texts))],
                "text": texts,
                "group": np.zeros(len(texts), np.int64),
                "priority": np.zeros(len(texts), np.int32),
                "date": ["2020", "2024", *["2024"] * len(filler)],
            }
        )
        assert len(resolve(table, comparison())) == 0
        dropped = resolve(table, comparison(containment=0.9)).to_pylist()
        assert [(d["doc_id"], d["rule"], d["kept"]) for d in dropped] == [
            ("000", "contained", "001")
        ]
        assert dropped[0]["similarity"] == 1.0


def test_the_bands_reach_down_to_what_is_contained() -> None:
    assert lowest_jaccard(MinHashConfig()) == 0.8
    config = MinHashConfig(containment=0.95)
    assert 0.45 < lowest_jaccard(config) < 0.5  # half as long, and 95 % of it in the longer one
    assert banding_of(config).probability(lowest_jaccard(config)) >= 0.99


def test_documents_from_nothing_to_fifty_megabytes() -> None:
    rng = random.Random(7)
    block = prose(rng, 20_000)
    long = "".join(block[k:] + block[:k] for k in range(0, 20_000, 24))[:16_700_000]
    texts = ["", "一", "🙂", "一二三四", "一二三四五", "一二三四五", long, long[:-9] + "改"]
    assert len(long.encode()) > 50_000_000
    dropped = resolve(candidates(pa.array(texts), 0.8), comparison())
    # Of the long ones, the one with more distinct shingles stays.
    assert dropped["doc_id"].to_pylist() == ["000005", "000006"]
    assert dropped["kept"].to_pylist() == ["000004", "000007"]
