"""The format of log lines: one line per event, with its job and its trace."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO
from urllib.parse import unquote_plus

from opentelemetry import trace

from open_workshop_storage.utils.processes import granian

# Characters that end a line, control a terminal or cannot be encoded. Names from clients may contain any of them.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Access logs may be set up to hold query strings and headers. The names of all tokens end in `token`, in any case; in a
# query string they may be percent-encoded. The look-behind keeps the search linear: no name is tried from its middle.
_PARAMETER = re.compile(r"""(?<![^\s?&;="'])([^\s?&;="']++)="?[^\s&;"']+""")
_CREDENTIALS = re.compile(r"\b(Bearer|Basic)\s+\S+", re.IGNORECASE)


def job_log(logger: logging.Logger, job_id: str) -> logging.LoggerAdapter[logging.Logger]:
    """Return a logger whose lines name the job."""
    return logging.LoggerAdapter(logger, {"job_id": job_id})


def configure_logging(form: Literal["text", "json"]) -> None:
    """Send log lines to standard error: those of this package from INFO on, others from WARNING on.

    The server's own lines in this process, its access log included, get the same form, without tokens.
    """
    formatter = JsonFormatter() if form == "json" else _TextFormatter()
    root = logging.getLogger()
    handler = next((handler for handler in root.handlers if isinstance(handler, _StandardError)), None)
    if handler is None:
        handler = _StandardError()
        root.addHandler(handler)
    handler.setFormatter(formatter)
    for name in granian.LOGGERS:
        for server_handler in logging.getLogger(name).handlers:
            server_handler.setFormatter(formatter)
    logging.getLogger("open_workshop_storage").setLevel(logging.INFO)
    # This library logs each malformed form, which any client can send.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


class _StandardError(logging.StreamHandler[TextIO]):
    """A type of its own, so that a second call finds the handler of the first."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)


class _TextFormatter(logging.Formatter):
    """Lines for people: `2026-11-24T05:34:03.123Z INFO 4711 job <id>: moved to … trace=…`."""

    def format(self, record: logging.LogRecord) -> str:
        job_id = getattr(record, "job_id", None)
        job = f"job {job_id}: " if job_id else ""
        trace_id = _trace_ids()[0]
        traced = f" trace={trace_id}" if trace_id else ""
        text = f"{record.levelname} {record.process} {job}{_message(record)}{traced}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{_time(record)} {_UNPRINTABLE.sub(_escaped, text)}"


class JsonFormatter(logging.Formatter):
    """Lines for programs: one JSON object each, without the fields that have no value.

    `deploy/json-log.json` names it for the server's main process, which knows no settings.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as an object."""
        trace_id, span_id = _trace_ids()
        fields = {
            "time": _time(record),
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "job_id": getattr(record, "job_id", None),
            "message": _message(record),
            "trace_id": trace_id,
            "span_id": span_id,
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None})


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.name in granian.LOGGERS:
        text = _CREDENTIALS.sub(r"\1 ...", _PARAMETER.sub(_without_token, text))
    return text


def _without_token(match: re.Match[str]) -> str:
    return f"{match[1]}=..." if unquote_plus(match[1]).lower().endswith("token") else match[0]


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace_ids() -> tuple[str | None, str | None]:
    """Return the ids of the current trace and span, if there is one."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None, None
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
