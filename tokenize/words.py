"""Words for a vocabulary: the Han pieces of a sentencepiece BPE learnt on a stratified sample.

The sample takes from every bucket what the mixture's weights ask for, so that pieces go where
training will spend its tokens. Only runs of allowed characters are learnt from: what lies between
them would give pieces that are thrown away.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence

import sentencepiece
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from corpus.settings import UserError
from tokenization.pieces import CJK_PUNCTUATION, HAN, ModelProto, donor_pieces, is_allowed
from tokenization.sample import bucket_column

LONGEST_TEXT = 200_000  # characters of a document that are looked at


def stratified_texts(
    documents: DataFrame, characters: int, weights: Mapping[str, float]
) -> list[str]:
    """Texts of about `characters` in all, each bucket's share by its weight.

    Without weights a bucket's share is its share of the corpus. A bucket that holds less than its
    share gives all it has. Documents are chosen by a hash of `doc_id`; the order is by `doc_id`.

    Raises:
        UserError: a weight is for a bucket that does not exist.
    """
    sized = documents.where("length(text) > 0").select(
        "doc_id",
        bucket_column().alias("bucket"),
        F.least(F.length("text"), F.lit(LONGEST_TEXT)).alias("size"),
    )
    totals = {
        row["bucket"]: row["total"]
        for row in sized.groupBy("bucket").agg(F.sum("size").alias("total")).collect()
    }
    unknown = sorted(set(weights) - set(totals))
    if unknown:
        raise UserError(
            f"weights: there is no bucket {unknown[0]}; there are {', '.join(sorted(totals))}"
        )
    shares = dict(weights) or {name: float(total) for name, total in totals.items()}
    whole = sum(shares.values())
    if not whole:
        return []
    budgets = {name: int(characters * share / whole) for name, share in shares.items()}
    order = Window.partitionBy("bucket").orderBy(F.xxhash64("doc_id"), "doc_id")
    budget = F.lit(0)
    for name, limit in budgets.items():
        budget = F.when(F.col("bucket") == name, F.lit(limit)).otherwise(budget)
    chosen = (
        sized.withColumn("before", F.sum("size").over(order) - F.col("size"))
        .where(F.col("before") < budget)
        .select("doc_id")
    )
    rows = (
        documents.select("doc_id", F.substring("text", 1, LONGEST_TEXT).alias("text"))
        .join(F.broadcast(chosen), "doc_id")
        .collect()
    )
    return [row["text"] for row in sorted(rows, key=lambda row: row["doc_id"])]


def learn_words(
    texts: Sequence[str], size: int, longest: int, coverage: float, punctuation: bool
) -> list[str]:
    """Up to `size` pieces of a BPE learnt on the allowed runs of `texts`, the best first.

    Args:
        longest: characters of a piece at most.
        coverage: share of the characters' occurrences whose characters become pieces.
    """
    runs = list(allowed_runs(texts, punctuation))
    if not runs:
        return []
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(runs),
        model_writer=written,
        model_type="bpe",
        vocab_size=size + 3,  # <unk>, <s>, </s>
        hard_vocab_limit=False,
        character_coverage=coverage,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        split_by_unicode_script=False,  # the runs are of one script already
        max_sentencepiece_length=longest,
        max_sentence_length=1 << 20,
        num_threads=1,
        minloglevel=2,
    )
    model = ModelProto()
    model.ParseFromString(written.getvalue())
    return list(donor_pieces(model, punctuation))[:size]


def allowed_runs(texts: Sequence[str], punctuation: bool) -> Iterator[str]:
    """The longest stretches of allowed characters, of two and more."""
    marks = "".join(sorted(mark for mark in CJK_PUNCTUATION if is_allowed(mark, True)))
    ranges = "".join(f"{chr(first)}-{chr(last)}" for first, last in HAN)
    pattern = re.compile(f"[{ranges}{re.escape(marks) if punctuation else ''}]{{2,}}")
    for text in texts:
        yield from pattern.findall(text)
