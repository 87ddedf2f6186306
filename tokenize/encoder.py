"""Text to ids by the fastest engine that gives the tokenizer's own ids.

The reference is what the tokenizer is made of: sentencepiece for `tokenizer.model`, `tokenizers`
for a folder with `tokenizer.json` alone (Qwen, Llama 3). Others are several times faster: our own
(`tokenization.segments`) and `kitoken`. That they give the same ids is not believed but compared,
on a sample of every run (`tokenization.runs`). None reads `</s>` in a text as the control token.
"""

import functools
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.settings import UserError
from tokenization.manifest import TokenizerInfo, tokenizer_fingerprint

EngineName = Literal["segments", "kitoken", "reference"]
Ids = npt.NDArray[np.int32]
Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Engine:
    """One way to encode."""

    name: str
    """With its version, for the log."""
    encode: Callable[[pa.Array], tuple[Ids, Lengths]]
    """Texts, a string array without nulls → their ids end to end, and the number of ids of each
    text. No BOS, no EOS."""


def engine_names(folder: str | Path) -> list[EngineName]:
    """The engines to try on the tokenizer in `folder`, the fastest first, the reference last."""
    names: list[EngineName] = ["kitoken", "reference"]
    if not importlib.util.find_spec("kitoken"):
        names.remove("kitoken")
    path = Path(folder) / "tokenizer.model"
    if path.is_file():
        from tokenization.pieces import read_model
        from tokenization.segments import is_supported

        if is_supported(read_model(path)):
            names.insert(0, "segments")
    return names


@functools.cache  # one per worker process; reading a vocabulary takes tenths of a second
def load_engine(folder: str, name: EngineName) -> Engine:
    """The engine `name` for the tokenizer in `folder`."""
    make = {"segments": _segments, "kitoken": _kitoken, "reference": _reference}
    return make[name](Path(folder))


def describe_tokenizer(folder: str | Path, eos: str | None, bos: bool) -> TokenizerInfo:
    """What the manifest says of a tokenizer.

    Args:
        eos: the token that ends documents; None takes the tokenizer's own.
        bos: whether documents begin with the tokenizer's beginning-of-text token.

    Raises:
        UserError: there is no tokenizer, or it has no such token.
    """
    folder = Path(folder)
    fingerprint = tokenizer_fingerprint(folder)
    if (folder / "tokenizer.model").is_file():
        model = _sentencepiece(folder)
        size, ids = model.get_piece_size(), model.piece_to_id
        own_eos = model.id_to_piece(model.eos_id()) if model.eos_id() >= 0 else None
        own_bos = model.id_to_piece(model.bos_id()) if model.bos_id() >= 0 else None
        known = {token for token in (eos or own_eos, own_bos) if token}
        missing = [token for token in known if model.is_unknown(ids(token))]
    else:
        import tokenizers

        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        size, ids = max(tokenizer.get_vocab().values()) + 1, tokenizer.token_to_id
        own_eos, own_bos = _tokens_of_config(folder)
        known = {token for token in (eos or own_eos, own_bos) if token}
        missing = [token for token in known if ids(token) is None]
    eos = eos or own_eos
    if missing or eos is None:
        what = f"no token {missing[0]}" if missing else "no end-of-text token"
        raise UserError(f"{folder}: the tokenizer has {what}; name one by the key `eos`")
    if bos and own_bos is None:
        raise UserError(f"{folder}: the tokenizer has no beginning-of-text token; set `bos: false`")
    return TokenizerInfo(
        fingerprint=fingerprint,
        vocabulary_size=size,
        eos_id=ids(eos),
        bos_id=ids(own_bos) if bos else None,
    )


def load_decoder(folder: str | Path) -> Callable[[list[int]], str]:
    """Ids to text for the tokenizer in `folder`; control tokens are shown as they are called."""
    folder = Path(folder)
    if (folder / "tokenizer.model").is_file():
        model = _sentencepiece(folder)

        def decode(ids: list[int]) -> str:
            ends = {k: model.id_to_piece(k) for k in set(ids) if model.is_control(k)}
            body = [k for k in ids if k not in ends]
            first = ends.get(ids[0], "") if ids else ""
            last = ends.get(ids[-1], "") if len(ids) > 1 else ""
            return f"{first}{model.decode(body)}{last}"

        return decode
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def flatten(rows: Sequence[Sequence[int]]) -> tuple[Ids, Lengths]:
    """Lists of ids → all of them end to end, and the length of each."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    ids = np.empty(int(lengths.sum()), np.int32)
    end = 0
    for row, length in zip(rows, lengths.tolist(), strict=True):
        ids[end : end + length] = row
        end += length
    return ids, lengths


def _segments(folder: Path) -> Engine:
    from tokenization.pieces import read_model
    from tokenization.segments import SegmentEncoder

    encoder = SegmentEncoder(read_model(folder / "tokenizer.model"))
    return Engine("segments (numba)", encoder.encode)


def _kitoken(folder: Path) -> Engine:
    import kitoken

    if (folder / "tokenizer.model").is_file():
        from tokenization.pieces import read_model, without_padding

        content = without_padding(read_model(folder / "tokenizer.model")).SerializeToString()
        encoder = kitoken.Kitoken.from_sentencepiece(content)
    else:
        encoder = kitoken.Kitoken.from_tokenizers_file(str(folder / "tokenizer.json"))

    def encode(texts: pa.Array) -> tuple[Ids, Lengths]:
        return flatten([encoder.encode(text, False) for text in texts.to_pylist()])

    return Engine(f"kitoken {importlib.metadata.version('kitoken')}", encode)


def _reference(folder: Path) -> Engine:
    if (folder / "tokenizer.model").is_file():
        model = _sentencepiece(folder)

        def encode(texts: pa.Array) -> tuple[Ids, Lengths]:
            return flatten([model.encode(text) for text in texts.to_pylist()])

        return Engine(f"sentencepiece {importlib.metadata.version('sentencepiece')}", encode)

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Spark has a process for every core already
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True

    def encode_fast(texts: pa.Array) -> tuple[Ids, Lengths]:
        found = tokenizer.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)
        return flatten([encoding.ids for encoding in found])

    return Engine(f"tokenizers {importlib.metadata.version('tokenizers')}", encode_fast)


def _sentencepiece(folder: Path) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def _tokens_of_config(folder: Path) -> tuple[str | None, str | None]:
    """EOS and BOS of a Hugging Face folder's tokenizer_config.json."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return None, None
    config = json.loads(path.read_text(encoding="utf-8"))
    values = [config.get("eos_token"), config.get("bos_token")]
    texts = [value.get("content") if isinstance(value, dict) else value for value in values]
    return texts[0], texts[1]
