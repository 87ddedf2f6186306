"""Personal data: what identifies a person, found by format and check digit, masked by kind.

Securities codes, amounts, dates and announcement numbers are not personal data and must survive:
so every kind has either a checksum (identity card, bank card, credit code) or a prefix and length
that only it has (mobile numbers), or needs a word beside it (QQ, WeChat, passport, landline).
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from corpus.clean import prefilter as flag

Policy = Literal["keep", "mask", "drop"]

# What may not stand on either side of a number. \b would take a Han character for a word
# character and so miss every number that touches one. `_LEFT` follows the number's first
# character: a pattern that begins with a look-behind is tried at every position, slowly.
_LEFT = r"(?<![0-9A-Za-z_].)(?<![0-9][.,，:：/-].)(?<![¥￥$#].)"
_RIGHT = r"(?![0-9A-Za-z_%％])(?![.,][0-9])"
_GAP = r"[ -]?"

_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_CREDIT_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"


# What stands before a number that is no person's: 编号, 许可证：, 惠府国用（2013）第. A person's
# own numbers are called 身份证号, 手机号, 卡号, 账号.
_NUMBERED_THING = re.compile(
    r"(?:编号|编码|文号|代码|"
    r"(?:许可|登记|权|合格|资格|执业|土地|房产|商标|专利|注册|使用|产权)"
    r"证书?|证书|合同|协议|批准|备案|发票|订单|单号|注册|条码|型号|国用|第)"
    r"(?:编号|号码|号)?\s*[|:：为是]?\s*(?:No\.?)?[（(]?$",
    re.I,
)
_QUANTITY = re.compile(r"\s?(?:号|元|万|亿|股|份|美元|港元|吨|平方|千克|公斤|人民币)")
_PROVINCE_CODES = re.compile(r"1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[123]")


def identity_card(found: str) -> bool:
    """Whether 18 characters are a resident identity number: GB 11643-1999, ISO 7064 MOD 11-2."""
    if not _PROVINCE_CODES.match(found):
        return False
    year, month, day = int(found[6:10]), int(found[10:12]), int(found[12:14])
    if not (1850 <= year <= 2100 and 1 <= month <= 12 and 1 <= day <= 31):
        return False
    total = sum(int(d) * w for d, w in zip(found[:17], _ID_WEIGHTS, strict=True))
    return _ID_CHECKS[total % 11] == found[17].upper()


def bank_card(found: str) -> bool:
    """Whether the digits are a card number: 16 to 19 digits, ISO/IEC 7812, Luhn's check."""
    digits = [int(d) for d in found if d.isdigit()]
    if not 16 <= len(digits) <= 19 or len(set(digits)) < 4:
        return False
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * d, 10)) for d in digits[-2::-2])
    return total % 10 == 0


def credit_code(found: str) -> bool:
    """Whether 18 characters are a unified social credit code: GB 32100-2015, MOD 31."""
    code = found.upper()
    if "XXX" in code:  # an identity number that was blacked out
        return False
    if code[2:4] != "10" and not _PROVINCE_CODES.match(code[2:4]):  # 10 is the state itself
        return False
    total = sum(
        _CREDIT_ALPHABET.index(d) * w for d, w in zip(code[:17], _CREDIT_WEIGHTS, strict=True)
    )
    return _CREDIT_ALPHABET[(31 - total % 31) % 31] == code[17]


def _a_persons(check: Callable[[str], bool]) -> Callable[[str, str, str], bool]:
    """`check`, and the number is not introduced as that of a certificate or contract."""

    def valid(found: str, before: str, after: str) -> bool:
        return check(found) and not _NUMBERED_THING.search(before)

    return valid


def _anywhere(check: Callable[[str], bool]) -> Callable[[str, str, str], bool]:
    return lambda found, before, after: check(found)


def _telephone(found: str, before: str, after: str) -> bool:
    # 第13021750020号, 银行17603168021号账户, 合同17816100007-3, 金额18111162368元
    if _QUANTITY.match(after) or (after[:1] == "-" and after[1:2].isdigit()):
        return False
    return not _NUMBERED_THING.search(before)


def _credit_code(found: str, before: str, after: str) -> bool:
    # It has replaced the registration number and is introduced as one.
    return credit_code(found) and not re.search(r"(?:编号|合同|证书)[:：为]?\s*[（(]?$", before)


def _public_ip(found: str) -> bool:
    parts = [int(part) for part in found.split(".")]
    return all(part <= 255 for part in parts) and parts[0] not in (0, 10, 127, 255)


def _always(found: str, before: str, after: str) -> bool:
    return True


@dataclass(frozen=True)
class Kind:
    """One kind of personal data."""

    name: str
    placeholder: str
    pattern: re.Pattern[str]
    """The group `data`, or the whole match, is what is masked."""
    valid: Callable[[str, str, str], bool]
    """Of the data and of the characters before and after it, `CONTEXT` of each."""
    hint: tuple[str, ...] = ()
    """Without one of these in the text the pattern is not tried."""
    digits: int = 0
    """Flags of `corpus.clean.prefilter` of which a text that holds it has at least one."""


CONTEXT = 16

KINDS: tuple[Kind, ...] = (
    Kind(
        "email",
        "[EMAIL]",
        re.compile(
            r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@"
            r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,5}[A-Za-z]{2,18}(?![A-Za-z0-9@])"
        ),
        _always,
        ("@",),
    ),
    Kind(
        "identity-card",
        "[ID]",
        re.compile(rf"[1-8]{_LEFT}[0-9]{{5}}(?:18|19|20)[0-9]{{9}}[0-9Xx]{_RIGHT}"),
        _a_persons(identity_card),
        digits=flag.CARD_DIGITS | flag.CODE_DIGITS,
    ),
    Kind(
        "credit-code",
        "[CREDIT_CODE]",
        re.compile(rf"[1-9ANY]{_LEFT}[1239][0-9]{{6}}[0-9A-HJ-NPQRTUWXY]{{10}}{_RIGHT}"),
        _credit_code,
        digits=flag.CARD_DIGITS | flag.CODE_DIGITS,
    ),
    Kind(
        "bank-card",
        "[BANK_CARD]",
        re.compile(rf"[34569]{_LEFT}(?:(?<=6)2|(?<=4)[0-9]|(?<=5)[1-5]|(?<=3)[57]|(?<=9)558)"
            rf"(?:{_GAP}[0-9]){{11,17}}{_RIGHT}"),
        _a_persons(bank_card),
        digits=flag.CARD_DIGITS,
    ),
    Kind(
        "mobile",
        "[MOBILE]",
        re.compile(
            rf"1[3-9](?:(?<=\+861.)|(?<=\+86[ -]1.)|(?<=00861.)|(?<=86-1.)|"
            rf"(?<![0-9A-Za-z_]..)(?<![0-9][.,，:：/-]..)(?<![¥￥$#]..))"
            rf"[0-9]{_GAP}[0-9]{{4}}{_GAP}[0-9]{{4}}{_RIGHT}"
        ),
        _telephone,
        digits=flag.PHONE_DIGITS,
    ),
    Kind(
        "landline",
        "[PHONE]",
        re.compile(
            rf"[(（048]{_LEFT}(?:(?<=[(（])0[1-9][0-9]{{1,2}}[)）]\s?[2-9][0-9]{{6,7}}|"
            rf"(?<=0)(?:10|2[0-9]|[3-9][0-9]{{2}})[-－—][2-9][0-9]{{6,7}}|"
            rf"(?<=[48])00[- ]?[0-9]{{3}}[- ]?[0-9]{{4}})(?:[-转]\s?[0-9]{{1,5}})?{_RIGHT}"
        ),
        _telephone,
        digits=flag.PHONE_DIGITS,
    ),
    Kind(
        "passport",
        "[PASSPORT]",
        re.compile(
            r"护照(?:号码|号|编号)?\s{0,3}[:：为是]?\s{0,3}"
            r"(?P<data>(?:[EeGgDdSsPp][0-9A-Za-z]?[0-9]{7}|1[45][0-9]{7}))(?![0-9A-Za-z])"
        ),
        _always,
        ("护照",),
    ),
    Kind(
        "qq",
        "[QQ]",
        re.compile(
            r"(?:QQ|qq|Qq|扣扣|企鹅)(?:群|号码|号|帐号|账号)?\s{0,3}[:：为是]?\s{0,3}(?P<data>[1-9][0-9]{4,10})"
            r"(?![0-9A-Za-z])"
        ),
        _always,
        ("QQ", "qq", "Qq", "扣扣", "企鹅"),
    ),
    Kind(
        "wechat",
        "[WECHAT]",
        re.compile(
            r"(?:微信|薇信|WeChat|wechat|VX|vx|V信)(?:号码|号|帐号|账号|ID|id)?\s{0,3}[:：为是]\s{0,3}"
            r"(?P<data>[A-Za-z][A-Za-z0-9_-]{5,19})(?![A-Za-z0-9_@.-])"
        ),
        _always,
        ("微信", "薇信", "WeChat", "wechat", "VX", "vx", "V信"),
    ),
    Kind(
        "plate",
        "[PLATE]",
        re.compile(
            rf"[{_PROVINCES}][A-HJ-NP-Z][·• ]?"
            rf"(?=[A-HJ-NP-Z0-9]*[0-9])(?:[A-HJ-NP-Z0-9]{{5,6}})(?![A-Za-z0-9])"
        ),
        _always,
    ),
    Kind(
        "ip",
        "[IP]",
        re.compile(
            r"(?:IP|ip|Ip)(?:地址|v4)?\s{0,3}[:：为是]?\s{0,3}(?P<data>(?:[0-9]{1,3}\.){3}[0-9]{1,3})(?![0-9.])"
        ),
        _anywhere(_public_ip),
        ("IP", "ip", "Ip"),
    ),
)  # fmt: skip


def mask(
    text: str, policies: dict[str, Policy], edits: Counter[str], flags: int
) -> tuple[str, str | None]:
    """The text with personal data masked, and the first kind found whose policy is drop.

    `flags` (`corpus.clean.prefilter.character_flags` of this text) say which kinds may be there.
    """
    dropped: str | None = None
    for kind in KINDS:
        policy = policies.get(kind.name, "mask")
        if policy == "keep" or (kind.digits and not kind.digits & flags):
            continue
        if kind.hint and not any(hint in text for hint in kind.hint):
            continue
        masked, found = _mask_kind(text, kind)
        if found and policy == "drop":
            dropped = dropped or kind.name
        elif found:
            text = masked
            edits[f"personal-{kind.name}"] += found
    return text, dropped


def _mask_kind(text: str, kind: Kind) -> tuple[str, int]:
    """The text with one kind masked, and how many characters of it there were."""
    found = 0
    group = "data" if "data" in kind.pattern.groupindex else 0

    def replace(match: re.Match[str]) -> str:
        nonlocal found
        start, end = match.span(group)
        before, after = text[max(0, start - CONTEXT) : start], text[end : end + CONTEXT]
        if not kind.valid(match[group], before, after):
            return match[0]
        found += end - start
        return text[match.start() : start] + kind.placeholder + text[end : match.end()]

    return kind.pattern.sub(replace, text), found
