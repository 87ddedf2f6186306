"""Documents inside zip files: pages, PDFs, texts, e-books."""

import zipfile
import zlib
from collections.abc import Iterator

import fsspec

from corpus.reading.records_base import Record, error_text


def zip_records(address: str, locator: str, limit: int, with_payload: bool) -> Iterator[Record]:
    """The members of a zip file, by the archive's own order; `limit` is bytes a member."""
    try:
        with fsspec.open(address, "rb") as stream, zipfile.ZipFile(stream) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                place = f"{locator}!{member.filename}"
                yield _member(archive, member, place, limit) if with_payload else Record(place)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        yield Record(locator, failure=f"unreadable: {error_text(error)}")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str, limit: int) -> Record:
    try:
        with archive.open(member) as file:
            payload = file.read(limit + 1)  # never trusts the size that the archive states
    except RuntimeError as error:  # zipfile's word for a password
        return Record(place, failure=f"encrypted: {error_text(error)}")
    except (OSError, EOFError, ValueError, NotImplementedError, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        return Record(place, failure=f"unreadable: {error_text(error)}")
    if len(payload) > limit:
        return Record(place, failure=f"too_large: more than {limit // 1_000_000} MB")
    return Record(place, payload)
