"""Page numbers and running headers, told apart from numbers and lines that merely recur."""

from collections import Counter

from corpus.clean.stage import CleanSettings, clean_texts

PAGES = 24


def clean(text: str, kind: str = "filing") -> tuple[str, Counter[str]]:
    cleaned, edits, _ = clean_texts([text], CleanSettings(), [kind])
    return cleaned[0], edits[0]


def body(page: int) -> list[str]:
    # Pages are of unequal length, as real ones are.
    return [
        f"公司在第{page}年的第{k}项业务继续增长，情况如下所述。" for k in range(4 + page * 7 % 5)
    ]


def test_numbers_that_count_up_page_by_page_are_removed():
    for shape in ("{}", "1-1-{}", "1–1–{}", "F-{}", "{} / 24"):
        lines = [line for n in range(1, PAGES + 1) for line in [*body(n), shape.format(n)]]
        cleaned, edits = clean("\n".join(lines))
        assert cleaned == "\n".join(line for n in range(1, PAGES + 1) for line in body(n))
        assert set(edits) == {"page-number"}


def test_numbers_that_are_content_stay():
    cells = [line for n in range(1, 25) for line in (f"产品{n}号", str(n), str(1000 * n % 977))]
    text = "\n".join([*body(1), *cells, *body(2), "2019", "2020", "2021", *body(3), "1-1-2"])
    assert clean(text) == (text, Counter())


def test_a_running_header_is_removed_and_a_unit_line_is_not():
    lines = []
    for n in range(1, PAGES + 1):
        lines += ["某某股份有限公司招股意向书", *body(n)]
        if n % 5 in (0, 1):
            lines += ["单位：万元", "| 项目 | 金额 |", f"| 收入 | {n} |"]
        lines.append(str(n))
    cleaned, edits = clean("\n".join(lines))
    assert cleaned.count("招股意向书") == 1  # it is kept where it stands first
    assert cleaned.count("单位：万元") == lines.count("单位：万元")
    assert set(edits) == {"page-number", "running-header"}


def test_headers_are_found_without_page_numbers_by_their_regularity():
    lines = [line for n in range(1, PAGES + 1) for line in ["招股意向书", *body(n)]]
    cleaned, edits = clean("\n".join(lines))
    assert cleaned.count("招股意向书") == 1
    assert set(edits) == {"running-header"}
    irregular = [*["单位：元"] * 2, *body(1), *["单位：元"] * 9, *body(2) * 1, "单位：元", *body(3)]
    assert clean("\n".join(irregular))[1]["running-header"] == 0


def test_headers_that_change_with_the_section():
    lines = []
    for n in range(1, PAGES + 1):
        lines += [f"招股意向书 第{1 + n // 9}节", *body(n), f"2-1-{n}"]
    cleaned, _ = clean("\n".join(lines))
    assert cleaned.count("招股意向书") == 3
