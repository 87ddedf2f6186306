"""Bytes to text: the encoding found from byte order marks, the bytes themselves, and what they say.

A declaration is believed only where the bytes bear it out: pages are re-encoded by servers, saved
by editors and glued from parts, and one bad byte must not cost a page. In this order: byte order
mark; UTF-16 by its zero bytes; UTF-8 where the bytes are (nearly) valid UTF-8, whatever is
declared; then the declared charset and the usual legacy ones, scored on how much of the text is
frequent characters of its language.
"""

import codecs
import re

DECLARED = re.compile(
    rb"""<meta[^>]{0,300}?charset\s*=\s*["']?\s*([\w:.-]{2,40})|<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w:.-]{2,40})""",
    re.I,
)
SAMPLE_BYTES = 300_000
BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its prefix
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What a label means: the superset that browsers take (WHATWG Encoding Standard).
SUPERSETS = {
    "gb2312": "gb18030", "gbk": "gb18030", "gb_2312-80": "gb18030", "x-gbk": "gb18030",
    "chinese": "gb18030", "hz-gb-2312": "hz", "big5": "big5hkscs", "big5-hkscs": "big5hkscs",
    "x-x-big5": "big5hkscs", "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932",
    "x-sjis": "cp932", "windows-31j": "cp932", "ks_c_5601-1987": "cp949", "euc-kr": "cp949",
    "iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252",
    "iso-8859-9": "cp1254", "iso-8859-11": "cp874", "tis-620": "cp874",
}  # fmt: skip
# The characters that make up about half of running text, simplified and traditional.
COMMON_HAN = frozenset(
    "的一是不了在人有我他这個个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
    "用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日"
    "军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相"
    "见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名"
    "真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市"
    "直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路"
    "記這們來為國說時會對過發後裡經麼學現當沒動還進樣開從實軍無與長機關點業將兩間問應戰頭體見產話給門東聲員"
    "論處義幾認條氣題爾別變總電數報結務場計資許統區隊決馬書則聽卻達強難權設網頁請請版本站最新上網公司首頁"
)
COMMON_KANA = frozenset(
    "のにはをたがでてとしれさるいすもなかこらりっくまんアイルスントドラリコテレ"
)
COMMON_HANGUL = frozenset("이다는의에을가고를로은하도지한서기니리사자어나있들인")
COMMON_CYRILLIC = frozenset("оеаинтсрвлкмдпуыяОЕАИНТСРВЛК")


def decode(payload: bytes, declared: str | None = None) -> tuple[str, str]:
    """Return the text of `payload` and the name of the encoding it was found to be in.

    `declared` is a charset from outside (an HTTP header, a recipe). Nothing raises: bytes that
    fit no encoding are left out, as are NULs.
    """
    for mark, name in BOMS:
        if payload.startswith(mark):
            return _text(payload[len(mark) :], name), name
    wide = _utf16(payload)
    if wide:
        return _text(payload, wide), wide
    payload = payload.replace(b"\0", b"") if b"\0" in payload else payload
    try:
        return payload.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    if _is_mostly_utf8(payload):
        return _text(payload, "utf-8"), "utf-8"
    best = max(_candidates(payload, declared), key=lambda name: _fitness(payload, name))
    return _text(payload, best), best


def declared_charset(payload: bytes) -> str | None:
    """The charset that a page's meta element or XML declaration names."""
    found = DECLARED.search(payload[:100_000])
    return (found[1] or found[2]).decode("ascii", "replace") if found else None


def _text(payload: bytes, name: str) -> str:
    return payload.decode(name, "replace").replace("\ufffd", "").replace("\0", "")


def _utf16(payload: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of its markup is zero."""
    sample = payload.lstrip(b"\0")[:4000] if payload[:2] == b"\0\0" else payload[:4000]
    if sample.count(0) < 0.03 * len(sample) or len(sample) < 4:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > 10 * even and b"<\0" in sample:
        return "utf-16-le"
    return "utf-16-be" if even > 10 * odd and b"\0<" in sample else None


VALID_UTF8 = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)


def _is_mostly_utf8(payload: bytes) -> bool:
    sample = payload[: 4 * SAMPLE_BYTES]
    multibyte = VALID_UTF8.findall(sample)
    valid = sum(map(len, multibyte))
    high = len(sample) - len(sample.translate(None, bytes(range(128, 256))))
    return valid > 0.9 * high > 0


def _candidates(payload: bytes, declared: str | None) -> list[str]:
    names = []
    for label in (declared, declared_charset(payload)):
        if label:
            name = SUPERSETS.get(label.lower().strip(), label)
            try:
                name = codecs.lookup(name).name
            except LookupError:
                continue
            if codecs.lookup(name)._is_text_encoding and not name.startswith(("utf-16", "utf-32")):
                names.append(name)
    return list(dict.fromkeys([*names, "gb18030", "big5hkscs", "cp932", "cp949", "cp1252"]))


def _fitness(payload: bytes, name: str) -> float:
    """How well the non-ASCII part decodes: its share of frequent characters less that of damage.

    Single-byte encodings decode anything, so they win only where nothing else looks like text.
    """
    text = payload[:SAMPLE_BYTES].decode(name, "replace")
    beyond = [sign for sign in text if sign > "\x7f"]
    if not beyond:
        return 0.0
    size = len(beyond)
    damage = sum(sign == "\ufffd" or "\ue000" <= sign <= "\uf8ff" for sign in beyond) / size
    frequent = max(
        sum(sign in common for sign in beyond)
        for common in (COMMON_HAN, COMMON_KANA, COMMON_HANGUL, COMMON_CYRILLIC)
    )
    if name == "cp1252":
        letters = sum(sign in "éèàùâêîôûçäöüßñáíóúãõœæ’“”‘–—…•©®°·\xa0«»£€" for sign in beyond)
        return letters / size - 0.2 - damage
    return frequent / size - 3 * damage
