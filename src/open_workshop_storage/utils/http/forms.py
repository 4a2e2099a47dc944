"""Forms as browsers and HTTP libraries send them (RFC 7578; the URL Standard's `x-www-form-urlencoded`).

Everything but the file is bounded; the file is handed on piece by piece as it comes.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")

MAX_BYTES_BESIDES_FILE = 64 * 1024
"""Limit on a whole form, apart from its file."""

# Clients differ in which header of a part comes first.
_FIRST_PART = rb"\r?\n(?:[^\r\n]+\r?\n)*?Content-Disposition:[ \t]*form-data"
_MULTIPART_START = re.compile(rb"\s*--[^\r\n]+" + _FIRST_PART, re.IGNORECASE)
_MAX_START_BYTES = 1024
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 16 * 1024
# The library takes time quadratic in the length. A boundary has at most 70 characters (RFC 2046, section 5.1.1).
_MAX_CONTENT_TYPE_CHARACTERS = 1024


class FormError(ValueError):
    """The body is no form, is cut off, or has more or longer fields than the limits allow."""


class MultipartReader:
    """Reads a multipart form piece by piece.

    Args:
        boundary: As `multipart_boundary` returns it.
        file_field: The name of the field that may be of any size; it is not kept.

    Attributes:
        has_file: Whether the file has begun.
        complete: Whether the form has ended.

    Raises:
        FormError: The boundary is too long.
    """

    def __init__(self, boundary: bytes, file_field: str | None = None) -> None:
        self.has_file = False
        self.complete = False
        self._file_field = None if file_field is None else file_field.encode()
        # As bytes, since one wide character makes a text four times as large.
        self._fields: dict[bytes, bytes] = {}
        self._count = 0
        self._bytes_left = MAX_BYTES_BESIDES_FILE
        self._name = b""
        self._header = bytearray()
        self._disposition = bytearray()
        self._value = bytearray()
        self._pieces: list[bytes] = []
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_to_header_name,
                    "on_header_value": self._add_to_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise FormError from error

    def feed(self, chunk: bytes) -> list[bytes]:
        """Read the next bytes of the body, and return those of them that belong to the file.

        Raises:
            FormError: The body is not a form any more, or a field is over its limit.
        """
        self._pieces = []
        try:
            self._parser.write(chunk)
        except (FormParserError, UnicodeDecodeError) as error:
            raise FormError from error
        return self._pieces

    def text(self, name: str) -> str | None:
        """Return a complete field; `None` if no such field has come."""
        value = self._fields.get(name.encode())
        return None if value is None else value.decode()

    def texts(self) -> dict[str, str]:
        """Return all fields that are complete, without the file."""
        return {name.decode(): value.decode() for name, value in self._fields.items()}

    def _begin_part(self) -> None:
        self._count += 1
        if self._count > _MAX_FIELDS:
            raise FormError
        self._disposition.clear()
        self._value.clear()
        self._header.clear()

    def _add_to_header_name(self, data: bytes, start: int, end: int) -> None:
        self._keep(self._header, data[start:end])

    def _add_to_header_value(self, data: bytes, start: int, end: int) -> None:
        if self._header.lower() == b"content-disposition":
            self._keep(self._disposition, data[start:end])

    def _keep(self, place: bytearray, data: bytes) -> None:
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise FormError
        place += data

    def _end_header(self) -> None:
        self._header.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(bytes(self._disposition))
        name = options.get(b"name")
        if name is None:
            raise FormError
        self._name = name
        if self._name == self._file_field:
            if self.has_file:
                raise FormError
            self.has_file = True

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._file_field:
            self._pieces.append(data[start:end])
        else:
            self._keep(self._value, data[start:end])
            if len(self._value) > _MAX_FIELD_BYTES:
                raise FormError

    def _end_part(self) -> None:
        if self._name != self._file_field:
            self._name.decode(), self._value.decode()
            self._fields[self._name] = bytes(self._value)
            self._value.clear()

    def _end(self) -> None:
        self.complete = True


def begins_multipart_form(head: bytes, boundary: bytes | None = None) -> bool | None:
    """Return whether a body is a multipart form, whatever its type says; `None` if these first bytes do not tell.

    Args:
        boundary: From its type; text may then come before the first part (RFC 2046, section 5.1.1).
    """
    if _MULTIPART_START.match(head, 0, _MAX_START_BYTES):
        return True
    if boundary is not None:
        start = re.compile(b"\n--" + re.escape(boundary) + _FIRST_PART, re.IGNORECASE)
        if start.search(head, 0, _MAX_START_BYTES):
            return True
        return None if len(head) < _MAX_START_BYTES else False
    return None if len(head) < _MAX_START_BYTES and head.lstrip()[:2] in (b"", b"-", b"--") else False


def multipart_boundary(content_type: str) -> bytes | None:
    """Return the boundary between the fields of a multipart form, or `None` if the body is of another type.

    Raises:
        FormError: The header names no boundary, or is too long to look for one.
    """
    if len(content_type) > _MAX_CONTENT_TYPE_CHARACTERS:
        raise FormError
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return None
    if not options.get(b"boundary"):
        raise FormError
    return options[b"boundary"]


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """Return the fields of a form of either type, without a file.

    Raises:
        FormError: The body is no complete form of that type, or a limit on its fields is passed.
    """
    boundary = multipart_boundary(content_type)
    if boundary is not None:
        reader = MultipartReader(boundary)
        reader.feed(body)
        if not reader.complete:
            raise FormError
        return reader.texts()
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise FormError from error
