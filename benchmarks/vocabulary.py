"""What growing a vocabulary gives, and whether it is exact: characters, words, a donor's pieces.

    python benchmarks/vocabulary.py --data DIR [--quick] [--json OUT]

Grows Mistral's 32,000 pieces on every document of DIR/text and counts the tokens of all Chinese
documents, whole: code, links and Markdown in them included. Beside it the merge script in common
use (a donor's pieces at score 0) and what transformers makes of a folder with `tokenizer.model`
alone.
"""

import argparse
import gzip
import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.document import DOCUMENT, document_id
from tokenization.evaluation import Codec, plain_lines
from tokenization.extend import VocabularyConfig, extend
from tokenization.pieces import Piece, is_han, processor, read_model
from tokenization.segments import SegmentEncoder

WORDS = 30_000
CHECKED_TEXTS = 2_000  # that transformers encodes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the documents")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        results = measure(options.data, options.quick, Path(scratch))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def measure(data: Path, quick: bool, scratch: Path) -> dict[str, float]:
    """Everything that the table shows, as flat numbers."""
    from corpus.session import spark_session

    table = read_documents(data, 20 if quick else 1)
    pq.write_table(table, scratch / "documents.parquet", row_group_size=2_000)
    chinese = [row["text"] for row in table.to_pylist() if row["lang"] == "zh"]
    base_path = data / "tokenizers" / "mistral-v1-32000.model"
    donor_path = data / "tokenizers" / "chinese_sp-20000.model"
    spark = spark_session("vocabulary benchmark")
    documents = spark.read.parquet(str(scratch / "documents.parquet"))

    configs = {
        "base": {"method": "none"},
        "char_level": {"method": "characters", "pad_to_multiple_of": 64},
        "word_level": {"method": "words", "count": WORDS, "pad_to_multiple_of": 64},
        "donor": {"method": "donor", "donor": str(donor_path), "pad_to_multiple_of": 64},
    }
    results: dict[str, float] = {}
    unchanged, parities = [], []
    print(f"{platform.machine()}, {os.cpu_count()} cores; {packages()}")
    print(f"{len(table):,} documents, {sum(map(len, chinese)):,} characters in Chinese ones\n")
    print(
        f"{'vocabulary':32} {'size':>7} {'tokens/char':>11} {'in Han lines':>12} "
        f"{'English kept':>12} {'parity':>8} {'saved':>7}"
    )
    for name, keys in configs.items():
        config = VocabularyConfig.model_validate({"base": str(base_path), **keys})
        report = extend(spark, documents, config, scratch / name)
        evaluation = report.evaluation
        checks = [evaluation.hugging_face_parity, evaluation.hugging_face_fuzz_parity]
        parity = sum(check.equal for check in checks) / sum(check.compared for check in checks)
        kept = float(evaluation.english_lines_unchanged.share or 0.0)
        model = read_model(scratch / name / "tokenizer.model")
        ratio, han_ratio = tokens_per_character(model, chinese)
        results |= {
            f"size_{name}": report.size,
            f"zh_tokens_per_char_{name}": ratio,
            f"zh_tokens_per_char_in_han_lines_{name}": han_ratio,
            f"sample_tokens_saved_{name}": evaluation.learning.tokens_saved,
        }
        unchanged.append(kept)
        parities.append(parity)
        row(name, report.size, ratio, han_ratio, kept, parity, evaluation.learning.tokens_saved)
    results["english_lines_unchanged"] = min(unchanged)
    results["hf_parity"] = min(parities)

    common = common_merge(base_path, donor_path)
    lines = plain_lines(table["text"].to_pylist(), 20_000)
    base, merged = (Codec.of_sentencepiece(processor(m)) for m in (read_model(base_path), common))
    same = [a == b for a, b in zip(base.encode(lines), merged.encode(lines), strict=True)]
    kept = sum(same) / len(same)
    peer_parity = transformers_parity(
        common, chinese[:: max(1, len(chinese) // CHECKED_TEXTS)], scratch
    )
    ratio, han_ratio = tokens_per_character(common, chinese)
    row("common merge script, same donor", len(common.pieces), ratio, han_ratio, kept, peer_parity)
    results |= {
        "peer_common_merge_english_lines_unchanged": kept,
        "peer_common_merge_transformers_parity": peer_parity,
    }
    print(
        "\nParity of the last row: transformers' own reading of a folder with tokenizer.model, "
        "against sentencepiece."
    )
    spark.stop()
    return results


def read_documents(data: Path, step: int) -> pa.Table:
    """Every `step`-th document of DIR/text, as contract 1's columns."""
    rows = []
    for path in sorted((data / "text").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if number % step == 0:
                    found = json.loads(line)
                    tags = {tag: found[tag] for tag in ("lang", "domain", "kind", "text")}
                    doc_id = document_id(path.name, str(number))
                    rows.append({"doc_id": doc_id, "source": path.name, **tags})
    if not rows:
        raise SystemExit(f"{data}/text: there are no .jsonl.gz files here")
    return pa.Table.from_pylist(rows, DOCUMENT)


def tokens_per_character(model: Any, texts: list[str]) -> tuple[float, float]:
    """Tokens a character of the whole texts, and of those of their lines that hold Han."""
    encoder = SegmentEncoder(model)
    lines = [line for text in texts for line in text.splitlines() if any(map(is_han, line))]
    ratios = []
    for group in (texts, lines):
        tokens = 0
        for first in range(0, len(group), 1_000):
            tokens += len(encoder.encode(pa.array(group[first : first + 1_000], pa.string()))[0])
        ratios.append(tokens / sum(map(len, group)))
    return ratios[0], ratios[1]


def common_merge(base_path: Path, donor_path: Path) -> Any:
    """What the merge script in common use makes: all of the donor's pieces, at score 0."""
    model = read_model(base_path)
    known = {piece.piece for piece in model.pieces}
    for piece in read_model(donor_path).pieces:
        if piece.piece not in known:
            model.pieces.add(piece=piece.piece, score=0.0, type=Piece.NORMAL)
    return model


def transformers_parity(model: Any, texts: list[str], scratch: Path) -> float:
    """Share of texts on which transformers, given `tokenizer.model`, agrees with sentencepiece."""
    from transformers import LlamaTokenizer

    folder = scratch / "common"
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    expected = processor(model).encode(texts)
    found = tokenizer(texts, add_special_tokens=False).input_ids
    return sum(a == b for a, b in zip(expected, found, strict=True)) / len(texts)


def row(
    name: str, size: int, ratio: float, han: float, kept: float, parity: float, saved: float = 0.0
) -> None:
    last = f"{100 * saved:6.1f}%" if saved else f"{'–':>7}"
    print(
        f"{name:32} {size:7,} {ratio:11.3f} {han:12.3f} {100 * kept:11.2f}% {100 * parity:7.2f}% "
        f"{last}",
        flush=True,
    )


def packages() -> str:
    names = ("sentencepiece", "tokenizers", "transformers", "pyspark")
    return ", ".join(f"{name} {version(name)}" for name in names)


if __name__ == "__main__":
    main()
