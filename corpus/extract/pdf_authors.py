"""Who wrote a document, as the file states it or as its first page does.

Names are believed where they stand as names do: analysts with their role, and between the title
and the abstract a line of names with commas, marks or more such lines.
"""

import re
from typing import Final

from corpus.extract.pdf_paragraphs import Block

NOBODY = re.compile(
    r"www\.|https?:|\.(?:com|cn|org|net)\b|资讯|^(?:admin\w*|user|author|unknown|owner|default\w*|"
    r"lenovo|微软\w*|windows.*|microsoft.*|[\W\d_]*)$",
    re.I,
)
"""What programs and sites write into the file in an author's place."""
SURNAMES: Final = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢"
    "姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤温康施"
    "傅樊葛邢安齐易乔伍庞颜倪庄聂章鲁岳翟殷詹申欧耿关兰焦俞左柳甘祝包宁尚符舒阮柯纪梅童凌毕单季裴霍涂成苗谷"
    "盛曲翁冉骆蓝路游辛靳管柴蒙鲍华喻祁蒲房滕屈饶解牟艾尤阳时穆农司卓古吉缪简车项连芦麦褚娄窦戚岑景党宫费卜"
    "冷晏席卫米柏宗瞿桂全佟应臧闵苟邬边卞姬师和仇栾隋商刁沙荣巫寇桑郎甄丛仲虞敖巩明佘池查麻苑迟邝"
)
ROLE = r"(?:分析师|研究员)"
NAME = rf"([{SURNAMES}][\u4e00-\u9fff]{{1,2}}?)"
ANALYSTS = re.compile(
    rf"(?<!联系人)(?:{ROLE}|作者)[\s:：|]*{NAME}"
    r"(?=[\s\d(（A-Z|,，、]|Tel|邮箱|执业|证书|联系|电话|$)"
    rf"|(?<![\u4e00-\u9fff]){NAME}\s*[(（](?:首席|资深|证券)*{ROLE}[)）]",
    re.M,
)
ABSTRACT = re.compile(r"a\s*b\s*s\s*t\s*r\s*a\s*c\s*t\b|摘\s*要", re.I)
MARKS = "∗*†‡#⋆§¶\uff0a"
SEPARATORS = re.compile(rf"\s*(?:[,;，；、{MARKS}]|\d+|\band\b|&)\s*")
WRITER = re.compile(
    r"[^\W\d_a-z][\w'’.-]*(?:\s+(?:de|van|von|der|den|la|del|di|da|[^\W\d_a-z][\w'’.-]*)){1,3}"
    rf"|[{SURNAMES}][\u4e00-\u9fff]{{1,2}}"
)
NO_WRITER = re.compile(
    r"\b(?:Universi|Institut|Depart|School|Inc\b|Ltd|Corp|Lab|Cent(?:er|re)|College|Facult|Academy|"
    r"Research|Group|Bank|Journal|Proceed|Google|Microsoft|Team|China|Technolog|Scienc|Division|"
    r"Volume|Vol\b|Models?\b|Learning|Language|Networks?\b|Stud(?:y|ies)\b|Analysis|Report)"
)
MOST_BLOCKS: Final = 12
"""Between the title and the abstract."""


def find_author(stated: str | None, title: str | None, first_page: list[Block]) -> str:
    """The authors' names with commas between them; "" where none are sure."""
    stated = (stated or "").strip()
    if stated and not NOBODY.search(stated):
        return stated
    texts = [block.text.lstrip("# ").replace("|", " ") for block in first_page]
    analysts = [a or b for a, b in ANALYSTS.findall("\n".join(texts))]
    return ", ".join(dict.fromkeys(analysts or _writers(texts, title)))


def _writers(texts: list[str], title: str | None) -> list[str]:
    """The names that stand between the title and the abstract."""
    end = next((k for k, text in enumerate(texts) if ABSTRACT.match(text)), None)
    if end is None:
        return []
    start = next((k for k, text in enumerate(texts[:end]) if title and text in title), 0)
    names: list[str] = []
    lone: list[str] = []
    for text in texts[start + 1 : end][:MOST_BLOCKS]:
        found = _names(text)
        if len(found) > 1 or any(mark in text for mark in MARKS):
            names.extend([*lone, *found])
            lone = []
        else:
            lone.extend(found)
    return names + lone if names else []


def _names(text: str) -> list[str]:
    """The names that a line begins with, up to what is none."""
    pieces = [piece for piece in SEPARATORS.split(text) if piece]
    has_letters = any(len(piece) == 1 for piece in pieces)  # marks of affiliations, set raised
    names = []
    for piece in pieces:
        name = re.sub(r"\s+[a-z]$", "", piece.strip())
        if len(name) <= 1:
            continue
        if has_letters and name == piece.strip():
            name = re.sub(r"(?<=[a-z]{2})[a-h]$", "", name)
        if not WRITER.fullmatch(name) or NO_WRITER.search(name):
            break
        names.append(name)
    return names
