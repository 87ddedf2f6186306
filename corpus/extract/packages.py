"""EPUB and DOCX: documents that are zip archives of XML. Both become HTML, and that Markdown.

DOCX is read by mammoth, which goes by styles, not by looks: headings, lists, tables with spans,
footnotes. Of an EPUB the chapters are read in the order of its spine. What an archive may unpack to
is bounded by what it declares, which Python's zipfile holds every member to.
"""

import io
import posixpath
import re
import zipfile
import zlib
from typing import Any
from urllib.parse import unquote

from corpus.extract.decoding import decode
from corpus.extract.html_whole import whole_text
from corpus.extract.result import Extracted
from corpus.extract.settings import ExtractSettings
from corpus.extract.word_formulas import with_formulas

LARGEST_TEXT = 200_000_000
"""Bytes that the parts of one document may unpack to."""
MOST_CHAPTERS = 10_000
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""What Word files before 2007 begin with, and those with a password."""
HEADINGS = "\n".join(
    [
        "p[style-name='Title'] => h1:fresh",
        "p[style-name='标题'] => h1:fresh",
        *(f"p[style-name='标题 {level}'] => h{level}:fresh" for level in range(1, 7)),
    ]
)
"""Beside the English names, which mammoth knows: what WPS calls them."""


class Broken(ValueError):
    """The archive is not what it should be."""


class TooLarge(ValueError):
    """It would unpack to too much."""


def extract_epub(payload: bytes, settings: ExtractSettings) -> Extracted:
    """The chapters of an EPUB; drops are `broken_epub`, `encrypted`, `too_large` and `no_text`."""
    return _extract("epub", payload, settings, _epub)


def extract_docx(payload: bytes, settings: ExtractSettings) -> Extracted:
    """The body of a DOCX; drops are `broken_docx`, `encrypted`, `too_large` and `no_text`."""
    if payload.startswith(OLE):
        if "EncryptedPackage".encode("utf-16-le") in payload:
            return Extracted(reason="encrypted", message="it needs a password")
        return Extracted(
            reason="not_docx", message="the bytes are those of a Word file before 2007"
        )
    return _extract("docx", payload, settings, _docx)


def _extract(name: str, payload: bytes, settings: ExtractSettings, read: Any) -> Extracted:
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            found: Extracted = read(archive, settings)
    except TooLarge as error:
        return Extracted(reason="too_large", message=str(error))
    except RuntimeError as error:  # zipfile's word for a password
        return Extracted(reason="encrypted", message=str(error))
    except (*ZIP_ERRORS, KeyError) as error:
        return Extracted(reason=f"broken_{name}", message=f"{type(error).__name__}: {error}"[:300])
    if found.reason is None and not found.text.strip():
        return Extracted(reason="no_text", message="no text in any of its parts")
    return found


def _epub(archive: zipfile.ZipFile, settings: ExtractSettings) -> Extracted:
    container = _xml(archive, "META-INF/container.xml")
    roots = container.xpath("//*[local-name()='rootfile']/@full-path")
    if not roots:
        raise Broken("its container names no package")
    package = _xml(archive, roots[0])
    base = posixpath.dirname(roots[0])
    items = {}
    for item in package.xpath("//*[local-name()='manifest']/*[local-name()='item']"):
        address = posixpath.normpath(posixpath.join(base, unquote(item.get("href") or "")))
        items[item.get("id")] = (
            address,
            item.get("media-type") or "",
            item.get("properties") or "",
        )
    chapters = []
    for reference in package.xpath("//*[local-name()='spine']/*[local-name()='itemref']/@idref"):
        address, media, properties = items.get(reference, ("", "", ""))
        if "html" in media and "nav" not in properties.split():
            chapters.append(address)
    names = set(archive.namelist())
    present = [address for address in chapters if address in names]
    if len(present) > MOST_CHAPTERS:
        raise TooLarge(f"{len(present)} chapters")
    _check_size(archive, present)
    if "META-INF/encryption.xml" in names:
        locked = _xml(archive, "META-INF/encryption.xml").xpath("//@URI")
        if set(map(unquote, locked)) & set(present):
            return Extracted(reason="encrypted", message="its chapters are encrypted")
    texts = [whole_text(decode(archive.read(address))[0], settings.html) for address in present]
    extra = {"author": "; ".join(_facts(package, "creator")), "chapters": str(len(present))}
    if len(present) < len(chapters):
        extra["chapters_missing"] = str(len(chapters) - len(present))
    return Extracted(
        "\n\n".join(text.strip("\n") for text in texts if text.strip()),
        title=next(iter(_facts(package, "title")), None),
        date=_date(_facts(package, "date")),
        extra={name: value for name, value in extra.items() if value},
    )


def _docx(archive: zipfile.ZipFile, settings: ExtractSettings) -> Extracted:
    import mammoth

    names = archive.namelist()
    if "word/document.xml" not in names:
        raise Broken("it has no word/document.xml")
    _check_size(archive, [name for name in names if name.endswith((".xml", ".rels"))])
    html = mammoth.convert_to_html(
        with_formulas(archive),
        style_map=HEADINGS,
        convert_image=lambda image: [],
        external_file_access=False,
    ).value
    facts = _xml(archive, "docProps/core.xml") if "docProps/core.xml" in names else None
    author = "; ".join(_facts(facts, "creator"))
    return Extracted(
        whole_text(f"<html><body>{html}</body></html>", settings.html, every_table=True),
        title=next(iter(_facts(facts, "title")), None),
        date=_date(_facts(facts, "created")),
        extra={"author": author} if author else {},
    )


def _check_size(archive: zipfile.ZipFile, names: list[str]) -> None:
    size = sum(archive.getinfo(name).file_size for name in names)
    if size > LARGEST_TEXT:
        raise TooLarge(f"its parts unpack to {size / 1e6:.0f} MB")


def _xml(archive: zipfile.ZipFile, name: str) -> Any:
    """A part's tree; entities and everything outside of the file stay untouched."""
    from lxml import etree

    _check_size(archive, [name])
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True, load_dtd=False)
    root = etree.fromstring(archive.read(name), parser)
    if root is None:
        raise Broken(f"{name} is no XML")
    return root


def _facts(root: Any, name: str) -> list[str]:
    if root is None:
        return []
    texts = root.xpath(f"//*[local-name()='{name}']//text()")
    return [text for text in (" ".join(text.split()) for text in texts) if text]


def _date(found: list[str]) -> str | None:
    match = re.match(r"\d{4}(?:-\d{2}(?:-\d{2})?)?", found[0]) if found else None
    return match[0] if match else None
