"""The stage `signals`: one struct column of numbers about every document."""

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.buffers import string_buffers
from corpus.settings import Settings
from corpus.signals import table
from corpus.signals.characters import character_table, han_table
from corpus.signals.counters import ALL
from corpus.signals.kernel import measure
from corpus.signals.lexicons import lexicon
from corpus.signals.repetition import entropy_table, word_names
from corpus.signals.stop_words import stop_word_table
from corpus.signals.words import count_words
from corpus.stage import BatchStage, verdicts


class SignalSettings(Settings):
    """What is measured; what is an opinion is a threshold in a profile."""

    jieba: bool = False
    """Cut Chinese into words by jieba, for profiles that ask for the signals `jieba_…`. Takes some
    thirty times the time of all other signals. Needs the package jieba."""


class Signals(BatchStage):
    """Measures; drops nothing. A rule that needs another number starts with a counter here."""

    Config = SignalSettings
    config: SignalSettings

    @property
    def needs(self) -> Sequence[str]:
        return ("text",)

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([pa.field("signals", table.signal_type(self.config.jieba))])

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        signals = measure_texts(batch.column("text"), self.config.jieba)
        kept = verdicts([None] * batch.num_rows)
        return pa.RecordBatch.from_arrays(
            [batch.column("doc_id"), signals, kept], ["doc_id", "signals", "verdict"]
        )


def measure_texts(texts: pa.Array, jieba: bool = False) -> pa.StructArray:
    """The signals of each text (`corpus.signals.table.SIGNALS`); a null counts as empty."""
    counts = count_texts(texts)
    if jieba:
        counts = np.hstack([counts, count_words(texts.to_pylist())])
    return table.compute(counts, jieba)


def count_texts(texts: pa.Array) -> NDArray[np.float64]:
    """The counters of each text, float64 [documents, counters]."""
    offsets, data = string_buffers(texts)
    counters = np.zeros((len(texts), ALL))
    words = lexicon()
    measure(
        data,
        offsets,
        character_table(),
        _han(),
        _word_names(),
        _stop_words(),
        _entropies(),
        words.slots,
        words.following,
        words.starts,
        words.data,
        words.list_of,
        counters,
    )
    return counters


@functools.cache
def _han() -> NDArray[np.uint8]:
    return han_table(lexicon().firsts, lexicon().seconds)


_word_names = functools.cache(word_names)
_stop_words = functools.cache(stop_word_table)
_entropies = functools.cache(entropy_table)
