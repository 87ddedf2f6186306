"""A vocabulary's report: `report.json` for programs, `report.html` for people."""

import json
from pathlib import Path

import jinja2

from corpus.settings import Settings
from tokenization.evaluation import Evaluation

SHOWN_PIECES = 200

PAGE = """{% macro bar(kind, value) %}
<div class="bar {{ kind }}" style="width:{{ (60 * value)|round|int }}px"></div>
{% endmacro %}<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Vocabulary: {{ report.method }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { border-bottom: 1px solid #ddd; padding: .25rem .75rem; text-align: right }
td:first-child, th:first-child { text-align: left }
.good { color: #17692f } .bad { color: #a3142a; font-weight: bold }
.bar { background: #4571b8; height: .6rem } .bar.after { background: #d97b29 }
.pieces span { display: inline-block; margin: 0 .6rem .2rem 0 } small { color: #666 }
</style>
<h1>Vocabulary: {{ report.method }}</h1>
<p>{{ "{:,}".format(report.size) }} entries: the base's {{ "{:,}".format(report.base_size) }},
{{ "{:,}".format(report.new_pieces) }} new pieces
{%- set padding = report.size - report.base_size - report.new_pieces %}
{%- if padding > 0 %} and {{ padding }} unused to fill up{% endif %}.
{% if report.coverage is not none %}The characters chosen cover
{{ "%.4f"|format(100 * report.coverage) }} % of the corpus' Han occurrences.{% endif %}
<small>SHA-256 {{ report.tokenizer_fingerprint }}</small></p>

<h2>Is it exact?</h2>
<table>
<tr><th>promise<th>compared<th>equal<th>share
{% for name, parity in checks %}
<tr><td>{{ name }}<td>{{ "{:,}".format(parity.compared) }}<td>{{ "{:,}".format(parity.equal) }}
<td class="{{ 'good' if parity.equal == parity.compared else 'bad' }}">
{%- if parity.share is none %}–{% else %}{{ "%.4f"|format(100 * parity.share) }} %{% endif %}
{% if parity.first_difference %}
<tr><td colspan="4" class="bad">{{ parity.first_difference }}
{% endif %}
{% endfor %}
</table>

<h2>Tokens a character, before and after</h2>
<table>
<tr><th>bucket<th>documents<th>characters<th>before<th>after<th><th>characters a token
<th>bytes before<th>bytes after
{% for name, bucket in report.evaluation.buckets.items() %}
<tr><td>{{ name }}<td>{{ "{:,}".format(bucket.documents) }}
<td>{{ "{:,}".format(bucket.characters) }}
<td>{{ "%.3f"|format(bucket.tokens_per_character_before) }}
<td>{{ "%.3f"|format(bucket.tokens_per_character_after) }}
<td>{{ bar("", bucket.tokens_per_character_before) }}
{{ bar("after", bucket.tokens_per_character_after) }}
<td>{{ "%.2f"|format(bucket.characters_per_token_before) }} →
{{ "%.2f"|format(bucket.characters_per_token_after) }}
<td>{{ "%.2f"|format(100 * bucket.byte_fallback_before) }} %
<td>{{ "%.2f"|format(100 * bucket.byte_fallback_after) }} %
{% endfor %}
</table>

<h2>Is it worth it?</h2>
{% set learning = report.evaluation.learning %}
<p>The new vocabulary needs {{ "%.1f"|format(100 * learning.tokens_saved) }} % fewer tokens for the
sample.
{% if report.new_pieces %}
If a row is learnt once its piece was seen {{ "{:,}".format(learning.seen_times) }} times, half of
the new pieces are learnt after {{ tokens(learning.tokens_until_half_are_learnt) }} and 95 % of them
after {{ tokens(learning.tokens_until_95_percent_are_learnt) }} of training. The saving makes up for
the former after {{ tokens(learning.tokens_to_break_even) }}.
{{ "{:,}".format(learning.never_used) }} new pieces are not in the sample at all.
{% endif %}
Saved tokens alone do not decide: “LLaMA Beyond English” found an extended model after 30 billion
tokens behind a plain one after half a billion.</p>

{% if used %}
<h2>New pieces, most used first</h2>
<p class="pieces">{% for piece, count in used %}<span>{{ piece }}
<small>{{ "{:,}".format(count) }}</small></span>{% endfor %}</p>
{% endif %}
</html>
"""


class VocabularyReport(Settings):
    """What `report.json` holds."""

    method: str
    base_size: int
    size: int
    new_pieces: int
    tokenizer_fingerprint: str
    coverage: float | None
    """Share of the corpus' Han occurrences that the chosen characters cover, where counted."""
    evaluation: Evaluation


def write_report(folder: Path, report: VocabularyReport) -> None:
    """Write `report.json` and `report.html` into the tokenizer's folder."""
    content = json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(content + "\n", encoding="utf-8")
    (folder / "report.html").write_text(render(report), encoding="utf-8")


def render(report: VocabularyReport) -> str:
    """The report as a page; pieces and texts are escaped."""
    evaluation = report.evaluation
    used = sorted(evaluation.new_pieces_used.items(), key=lambda item: (-item[1], item[0]))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(PAGE).render(
        report=report,
        used=used[:SHOWN_PIECES],
        tokens=_tokens,
        checks=[
            ("lines without Han keep their ids", evaluation.english_lines_unchanged),
            ("Hugging Face gives the same ids: sample", evaluation.hugging_face_parity),
            ("… made-up strings", evaluation.hugging_face_fuzz_parity),
            ("decoding gives the text back", evaluation.round_trip),
        ],
    )


def _tokens(count: float | None) -> str:
    if count is None:
        return "more tokens than can be told"
    for limit, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if count >= limit:
            return f"{count / limit:.1f} {name} tokens"
    return f"{count:,.0f} tokens"
