"""Personal data: what the cleaner finds, and what it leaves alone in finance text.

    python benchmarks/pii.py --data DIR [--quick] [--json OUT] [--show N]

Positives are made here with real formats and check digits (identity cards by GB 11643, cards by
Luhn, credit codes by GB 32100) and set into sentences, table cells and lists, touching Han
characters, letters or nothing. Hard negatives are lines of prospectuses, laws, investor questions
and annual reports that hold six digits or more and no word for personal data, and made ones:
securities codes, amounts, dates, document numbers, page numbers, numbers with a wrong check digit.
A positive counts as found where its placeholder stands and nothing of it is left; any placeholder
in a negative is a false alarm. Last, all lines of the prospectuses are masked, and every securities
code, amount, date, document number, page number and patent that does not survive is counted.
"""

import argparse
import csv
import io
import json
import platform
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from corpus.clean import personal
from corpus.clean.stage import CleanSettings, clean_texts

DATATROVE = """
import importlib.metadata, json, sys
from datatrove.pipeline.formatters import PIIFormatter
formatter = PIIFormatter()
texts = [formatter.format(text) for text in json.load(open(sys.argv[1], encoding="utf-8"))]
print(json.dumps({"version": importlib.metadata.version("datatrove"), "texts": texts}))
"""


@dataclass(frozen=True)
class Case:
    """A text, and the datum in it, if it holds one."""

    text: str
    kind: str | None
    data: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of measuring data")
    parser.add_argument("--quick", action="store_true", help="fewer cases")
    parser.add_argument("--json", type=Path, help="write the figures here, as flat JSON")
    parser.add_argument("--show", type=int, default=8, help="errors of each sort to print")
    parser.add_argument(
        "--peer-python", default=sys.executable, help="a Python in which datatrove is installed"
    )
    options = parser.parse_args(arguments)
    console = Console()
    chance = random.Random(17)
    positives = list(make_positives(chance, 20 if options.quick else 80))
    negatives = [
        *made_negatives(chance, 400),
        *found_negatives(options.data, chance, options.quick),
    ]
    figures: dict[str, float] = {"positives": len(positives), "negatives": len(negatives)}

    start = time.process_time()
    texts = [case.text for case in [*positives, *negatives]]
    settings = CleanSettings(characters=True, lines=False)
    masked, _, _ = clean_texts(texts, settings, ["web"] * len(texts))
    seconds = time.process_time() - start
    size = sum(len(text.encode()) for text in texts) / 1e6
    judge("", positives, negatives, masked, figures, console, options.show)
    figures["mb_per_cpu_s"] = size / seconds

    table = Table(title=f"personal data; {platform.processor() or platform.machine()}")
    for column in ("", "recall", "precision", "false alarms"):
        table.add_column(column)
    table.add_row(
        "Lianjin",
        f"{figures['recall']:.4f}",
        f"{figures['precision']:.4f}",
        f"{figures['false_alarms']:.0f} of {len(negatives)}",
    )
    peer = masked_by_datatrove(texts, options.peer_python)
    if isinstance(peer, str):
        table.add_row("datatrove", peer, "", "")
    else:
        judge("datatrove_", positives, negatives, peer[1], figures, None, 0)
        table.add_row(
            f"datatrove {peer[0]}",
            f"{figures['datatrove_recall']:.4f}",
            f"{figures['datatrove_precision']:.4f}",
            f"{figures['datatrove_false_alarms']:.0f} of {len(negatives)}",
        )
    console.print(table)
    by_kind = Table("kind", "found", "of", title="recall by kind")
    for kind in personal.KINDS:
        total = sum(case.kind == kind.name for case in positives)
        by_kind.add_row(kind.name, f"{figures[f'recall_{kind.name}'] * total:.0f}", str(total))
    console.print(by_kind)
    measure_survival(options.data, options.quick, figures, console, options.show)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


def measure_survival(
    data: Path, quick: bool, figures: dict[str, float], console: Console, show: int
) -> None:
    """How many codes, amounts, dates and numbers of the prospectuses the masking damages.

    A datum counts as damaged where it stands less often in the masked line than in the line.
    """
    lines = sorted({line.strip() for line in prospectus_lines(data) if NUMBER_SIGN.search(line)})
    if quick:
        lines = random.Random(17).sample(lines, min(len(lines), 5000))
    settings = CleanSettings(mojibake=False, characters=False, lines=False)
    masked, edits, _ = clean_texts(lines, settings, ["filing"] * len(lines))
    kinds = Counter(name for entry in edits for name in entry if name.startswith("personal-"))
    table = Table(title=f"what must survive, in {len(lines):,} lines of the prospectuses")
    for column in ("kind", "found", "damaged", "for example"):
        table.add_column(column)
    total = 0
    for name, pattern in SURVIVORS.items():
        found, damaged = 0, []
        for line, text in zip(lines, masked, strict=True):
            data_here = [match[0] for match in pattern.finditer(line)]
            found += len(data_here)
            if data_here and text != line:
                damaged += [d for d in set(data_here) if line.count(d) > text.count(d)]
        total += len(damaged)
        figures[f"survivors_{name}"], figures[f"damaged_{name}"] = found, len(damaged)
        table.add_row(name, f"{found:,}", str(len(damaged)), ", ".join(sorted(set(damaged))[:show]))
    figures["damaged_in_prospectuses"] = total
    console.print(table)
    found_kinds = ", ".join(f"{kind} in {count} lines" for kind, count in kinds.most_common())
    console.print(f"masked there: {found_kinds}", markup=False)


def judge(
    prefix: str,
    positives: Sequence[Case],
    negatives: Sequence[Case],
    masked: Sequence[str],
    figures: dict[str, float],
    console: Console | None,
    show: int,
) -> None:
    """Put recall and precision of `masked`, a cleaner's texts of all cases, into `figures`."""
    placeholders = {kind.name: kind.placeholder for kind in personal.KINDS}
    found: Counter[str] = Counter()
    missed, wrong = [], []
    for case, text in zip(positives, masked, strict=False):
        assert case.kind is not None
        assert case.data is not None
        gone = case.data not in text
        if gone and (prefix or placeholders[case.kind] in text):  # a peer's kinds have other names
            found[case.kind] += 1
        else:
            missed.append((case.kind, case.text, text))
            if not prefix and gone:
                wrong.append((case.kind, case.text, text))
    alarms = []
    for case, text in zip(negatives, masked[len(positives) :], strict=True):
        changed = text != case.text if prefix else any(p in text for p in placeholders.values())
        if changed:
            alarms.append((case.text, text))
    hits = sum(found.values())
    figures[f"{prefix}recall"] = hits / len(positives)
    figures[f"{prefix}precision"] = hits / max(1, hits + len(alarms) + len(wrong))
    figures[f"{prefix}false_alarms"] = len(alarms)
    if not prefix:
        for kind in placeholders:
            total = sum(case.kind == kind for case in positives)
            figures[f"recall_{kind}"] = found[kind] / total
    if console is not None:
        for kind, before, after in missed[:show]:
            console.print(f"missed {kind}: {before} -> {after}", markup=False)
        for before, after in alarms[:show]:
            console.print(f"false alarm: {before[:120]} -> {after[:120]}", markup=False)


def masked_by_datatrove(texts: Sequence[str], python: str) -> tuple[str, list[str]] | str:
    """datatrove's version and its masked texts, or why it did not run."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(list(texts), file)
        file.flush()
        command = [python, "-c", DATATROVE, file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"did not run: {(done.stderr.strip() or 'no message').splitlines()[-1]}"
    found = json.loads(done.stdout)
    return found["version"], found["texts"]


def luhn(digits: str) -> str:
    """`digits` and their check digit."""
    for check in "0123456789":
        if personal.bank_card(digits + check):
            return digits + check
    return luhn(digits[:-1] + str((int(digits[-1]) + 1) % 10))


def identity_card(chance: random.Random) -> str:
    region = chance.choice(["110105", "310104", "440305", "510107", "330106", "320102", "650104"])
    date = f"{chance.randint(1940, 2009)}{chance.randint(1, 12):02}{chance.randint(1, 28):02}"
    stem = f"{region}{date}{chance.randint(1, 999):03}"
    return next(stem + check for check in "0123456789X" if personal.identity_card(stem + check))


def credit_code(chance: random.Random) -> str:
    organisation = "".join(chance.choices("0123456789ABCDEFGHJKLMNPQRTUWXY", k=9))
    stem = f"9{chance.choice('123')}{chance.choice(['110108', '310115', '440300'])}{organisation}"
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    return next(stem + check for check in alphabet if personal.credit_code(stem + check))


def digits(chance: random.Random, count: int) -> str:
    return str(chance.randint(1, 9)) + "".join(chance.choices("0123456789", k=count - 1))


def make_datum(kind: str, chance: random.Random) -> tuple[str, str]:
    """A datum, and the words that must introduce it ('' if none must)."""
    if kind == "mobile":
        number = chance.choice(["13", "15", "17", "18", "19"]) + digits(chance, 9)
        spaced = f"{number[:3]} {number[3:7]} {number[7:]}"
        dashed = f"{number[:3]}-{number[3:7]}-{number[7:]}"
        return chance.choice([number, number, number, spaced, dashed]), ""
    if kind == "landline":
        area, number = chance.choice(["010", "021", "0755", "0571"]), digits(chance, 8)
        number = chance.choice("2345678") + number[1:]
        forms = [
            f"{area}-{number}",
            f"（{area}）{number}",
            f"({area}){number}",
            f"{area}-{number}-802",
        ]
        return chance.choice([*forms, f"400-{digits(chance, 3)}-{digits(chance, 4)}"]), ""
    if kind == "identity-card":
        return identity_card(chance), ""
    if kind == "credit-code":
        return credit_code(chance), ""
    if kind == "bank-card":
        stem, length = chance.choice([("622202", 19), ("621700", 19), ("4563", 16), ("5187", 16)])
        number = luhn(stem + digits(chance, length - len(stem) - 1))
        grouped = " ".join(number[k : k + 4] for k in range(0, len(number), 4))
        return chance.choice([number, number, grouped]), ""
    if kind == "passport":
        number = chance.choice(["E", "G", "EA", "D"])
        return number + digits(chance, 9 - len(number)), chance.choice(
            ["护照号码", "护照号：", "护照"]
        )
    if kind == "qq":
        return digits(chance, chance.randint(6, 10)), chance.choice(
            ["QQ：", "QQ", "qq:", "QQ群：", "扣扣"]
        )
    if kind == "wechat":
        name = "".join(chance.choices("abcdefghkmnpqrstuvwxyz", k=4)) + digits(chance, 4)
        return name, chance.choice(["微信：", "微信号:", "微信号为", "WeChat: "])
    if kind == "plate":
        rest = (
            chance.choice("ABCDEF")
            + chance.choice(["", "·"])
            + chance.choice("KLMNP")
            + digits(chance, 4)
        )
        return chance.choice("京沪粤苏浙川") + rest, ""
    if kind == "ip":
        numbers = [chance.randint(60, 126), *(chance.randint(1, 254) for _ in range(3))]
        return ".".join(map(str, numbers)), chance.choice(["IP地址：", "IP:", "IP "])
    user = chance.choice(["zhang.san", "ir", "li_si88", "wangwu", "dmb-office"])
    return f"{user}@{chance.choice(['qq.com', '163.com', 'abc-sec.com.cn', 'gmail.com'])}", ""


SENTENCES = (
    "请联系{}办理，谢谢。",
    "董事会秘书张三，联系方式{}，地址北京市西城区",
    "客户资料：{}；其他情况见附件",
    "{}",
    "| 王五 | {} | 2021年3月 |",
    "他留下了{}就走了",
    "（{}）",
    "投资者可通过{}咨询",
    "Please contact {} for details.",
    "收款信息 {} 请核对",
    "1、{}\n2、其他",
)


def make_positives(chance: random.Random, each: int) -> Iterator[Case]:
    for kind in personal.KINDS:
        for number in range(each):
            datum, introduction = make_datum(kind.name, chance)
            sentence = SENTENCES[number % len(SENTENCES)]
            yield Case(sentence.format(introduction + datum), kind.name, datum)


def made_negatives(chance: random.Random, count: int) -> Iterator[Case]:
    def n(length: int) -> str:
        return digits(chance, length)

    for number in range(count):
        identity, card = identity_card(chance), luhn("622202" + n(12))
        wrong_identity = identity[:-1] + ("1" if identity[-1] != "1" else "2")
        wrong_card = card[:-1] + str((int(card[-1]) + 5) % 10)
        board = chance.choice(["600", "000", "300", "688"])
        text = (
            f"证券代码：{board}{n(3)}，公告编号：2021-{n(3)}",
            f"本期金额{n(11)}元，上期{n(3)},{n(3)},{n(3)}.{n(2)}元",
            f"日期2021-03-{chance.randint(10, 28)} 10:20:30，流水20210315{n(8)}",
            f"编号{wrong_identity}的合同已经履行完毕",
            f"银行流水{wrong_card}不是卡号",
            f"惠府国用（2013）第13{n(9)}号，面积{n(5)}平方米",
            f"1-1-{n(3)} 第{n(2)}页 版本号 4.{n(1)}.12.{n(2)}",
            f"注册号为{n(15)}，专利号ZL2010{n(8)}.{n(1)}",
            f"基金代码{n(6)} 净值1.{n(4)} 份额{n(8)}.{n(2)}份",
            f"公司持股比例{n(2)}.{n(10)}%，每股收益0.{n(13)}",
        )[number % 10]
        yield Case(text, None, None)


PERSONAL_WORDS = re.compile(
    r"电话|传真|手机|邮箱|邮件|信箱|@|身份证|护照|QQ|qq|微信|车牌|牌照|信用代码|账号|帐号|账户|卡号|IP|联系方式|"
    r"热线|电 话|传 真|phone|fax|mail|挂车|牵引车|客车|越野车|轿车",
    re.I,
)
NUMBER = re.compile(r"[0-9](?:[ -]?[0-9]){5}")
# The word that says what a number is may stand in another line, a table's head: what has the shape
# of an identity card, a credit code or a telephone with its area code is taken for one. (Numbers of
# these shapes that are none are among the made negatives.)
SHAPED = re.compile(
    r"(?<![0-9])[1-6][0-9]{5}(?:19|20)[0-9]{9}[0-9Xx](?![0-9])|9[123][0-9]{6}[0-9A-Z]{9}[0-9A-Z]|"
    r"[（(]?0[1-9][0-9]{1,2}[)）—－-]\s?[0-9]{7,8}"
)


def found_negatives(data: Path, chance: random.Random, quick: bool) -> Iterator[Case]:
    """Lines of finance text that hold numbers and no word for personal data."""
    lines = sorted(
        {
            line.strip()
            for line in finance_lines(data)
            if NUMBER.search(line) and not PERSONAL_WORDS.search(line) and not SHAPED.search(line)
        }
    )
    yield from (
        Case(line, None, None)
        for line in chance.sample(lines, min(len(lines), 600 if quick else 20_000))
    )


# What a filing is full of and what must be left as it is.
NUMBER_SIGN = re.compile(r"[0-9]{2}")
SURVIVORS = {
    "securities_codes": re.compile(
        r"(?:股票|证券|基金|债券)代码[:：\s]{0,3}[0-9]{6}(?![0-9])|(?<![0-9])[0-9]{6}\.(?:SH|SZ|HK|OF)"
    ),
    "amounts": re.compile(
        r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?(?![0-9])|"
        r"(?<![0-9.,])[0-9]+(?:\.[0-9]+)?\s?(?:万元|亿元|元|万股|股|%|％|平方米|吨)"
    ),
    "dates": re.compile(
        r"(?<![0-9])(?:19|20)[0-9]{2}\s?(?:年\s?[0-9]{1,2}\s?月(?:\s?[0-9]{1,2}\s?日)?|"
        r"[-/.][0-9]{1,2}[-/.][0-9]{1,2}(?![0-9]))"
    ),
    "document_numbers": re.compile(
        r"[〔\[【（(](?:19|20)[0-9]{2}[〕\]】）)]\s?第?\s?[0-9]{1,8}\s?号|(?<![0-9])(?:19|20)[0-9]{2}-[0-9]{2,4}(?![0-9])"
    ),
    "page_numbers": re.compile(r"(?<![0-9-])[1-9]-[1-9]-[0-9]{1,4}(?![0-9-])"),
    "patents": re.compile(r"ZL\s?[0-9]{8,13}(?:\.[0-9X])?"),
}


def prospectus_lines(data: Path) -> Iterator[str]:
    with tarfile.open(data / "prospectuses.tar.gz") as archive:
        for member in sorted(archive, key=lambda member: member.name):
            file = archive.extractfile(member) if member.isfile() else None
            for line in file or ():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                yield str(record["inside"]).replace("\n", " ")


def finance_lines(data: Path) -> Iterator[str]:
    yield from prospectus_lines(data)
    with tarfile.open(data / "qa.tar.gz") as archive:
        for member in sorted(archive, key=lambda member: member.name):
            if member.name.endswith("FinTruthQA.csv"):
                content = archive.extractfile(member)
                assert content is not None
                rows = csv.DictReader(io.TextIOWrapper(content, "utf-8"))
                for row in rows:
                    yield row["QUES"]
                    yield row["ANS"]


if __name__ == "__main__":
    sys.exit(main())
