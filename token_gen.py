"""Makes the secrets that the storage and the Manager share.

Each of the three form tokens comes as a pair: the token itself, for the Manager's settings, and its bcrypt hash, for
`ow_config.py` here. The secret of the transfer JWTs is the same on both sides.

    .venv/bin/python token_gen.py [--json] [--write ow_config.py]

The exit status is 0, or 1 with a message when the configuration cannot be written, or 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bcrypt

SAMPLE = Path(__file__).resolve().with_name("ow_config_sample.py")
TOKEN_NAMES = ("upload_file", "delete_file", "storage_manage_token")
JWT_SECRET_NAME = "TRANSFER_JWT_SECRET"

_TOKEN_BYTES = 32
_JWT_SECRET_BYTES = 48
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ConfigError(Exception):
    """The configuration cannot be filled in; the text says why."""


@dataclass(frozen=True)
class TokenPair:
    """A form token.

    Attributes:
        plain: The token itself, which the Manager sends.
        hash: Its bcrypt hash, which the storage compares with.
    """

    plain: str
    hash: str


@dataclass(frozen=True)
class Secrets:
    """All that the storage and the Manager share.

    Attributes:
        tokens: The form tokens by the name of their setting.
        jwt_secret: Signs transfer tokens and callbacks.
    """

    tokens: Mapping[str, TokenPair]
    jwt_secret: str

    def for_manager(self) -> dict[str, str]:
        """Return what the Manager's settings need, by the setting's name here."""
        return {name: pair.plain for name, pair in self.tokens.items()} | {JWT_SECRET_NAME: self.jwt_secret}

    def for_storage(self) -> dict[str, str]:
        """Return what `ow_config.py` needs, by the setting's name."""
        return {name: pair.hash for name, pair in self.tokens.items()} | {JWT_SECRET_NAME: self.jwt_secret}


def generate() -> Secrets:
    """Return fresh secrets from the system's random source."""
    tokens = {}
    for name in TOKEN_NAMES:
        plain = secrets.token_urlsafe(_TOKEN_BYTES)
        tokens[name] = TokenPair(plain, bcrypt.hashpw(plain.encode(), bcrypt.gensalt()).decode())
    return Secrets(tokens, secrets.token_urlsafe(_JWT_SECRET_BYTES))


def write_config(path: Path, values: Mapping[str, str]) -> None:
    """Set some settings in a configuration and change nothing else; a reader sees the old file or the new one.

    Args:
        path: The configuration. If there is none, it is made from `ow_config_sample.py`, readable by its owner only.
        values: The texts to set, by the setting's name.

    Raises:
        ConfigError: The file cannot be read, understood or replaced, and is as it was.
    """
    # What a symbolic link points to is replaced, not the link.
    path = path.resolve()
    try:
        source = (path if path.exists() else SAMPLE).read_bytes()
        _replace(path, fill_in(source, values))
    except SyntaxError as error:
        raise ConfigError(f"{path} has a syntax error in line {error.lineno}") from None
    except ValueError:
        raise ConfigError(f"{path} is no text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def fill_in(source: bytes, values: Mapping[str, str]) -> bytes:
    """Return a module's source with some names set to new texts, everything else being the same byte for byte.

    Each value that a plain assignment gives to one of the names is replaced where it stands. A name without one, or
    with a last word of another kind (an import, a branch, several names at once), is assigned at the end.

    Raises:
        SyntaxError: The source is no Python.
        ValueError: The source is no text in UTF-8.
    """
    mark = _BYTE_ORDER_MARK if source.startswith(_BYTE_ORDER_MARK) else b""
    source = source.removeprefix(mark)
    module = ast.parse(source.decode())
    # The parser gives positions as a line and a number of bytes.
    lines = source.splitlines(keepends=True)
    line_starts = [0, *itertools.accumulate(map(len, lines))]

    spans = []
    for name, value in _plain_assignments(module):
        if name in values:
            assert value.end_lineno is not None and value.end_col_offset is not None
            start = line_starts[value.lineno - 1] + value.col_offset
            end = line_starts[value.end_lineno - 1] + value.end_col_offset
            spans.append((start, end, name))
    for start, end, name in sorted(spans, reverse=True):
        source = source[:start] + _literal(values[name]) + source[end:]

    newline = b"\r\n" if lines and lines[0].endswith(b"\r\n") else b"\n"
    for name, text in values.items():
        if not _settles(module, name):
            if source and not source.endswith((b"\n", b"\r")):
                source += newline
            source += name.encode() + b" = " + _literal(text) + newline
    return mark + source


def _literal(text: str) -> bytes:
    # A text in JSON is one in Python too.
    return json.dumps(text, ensure_ascii=False).encode()


def _plain_assignment(node: ast.AST) -> tuple[str, ast.expr] | None:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, value
    return None


def _plain_assignments(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield names and values, from branches too but not from functions and classes, which have names of their own."""
    if found := _plain_assignment(node):
        yield found
    elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        for child in ast.iter_child_nodes(node):
            yield from _plain_assignments(child)


def _settles(module: ast.Module, name: str) -> bool:
    """Tell whether the last statement that may set a name is a plain assignment which always runs."""
    last = None
    for statement in module.body:
        if any(_binds(node, name) for node in ast.walk(statement)):
            last = _plain_assignment(statement)
    return last is not None and last[0] == name


def _binds(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Name(id=bound, ctx=ast.Store() | ast.Del()):
            return bound == name
        case ast.alias(name=imported, asname=alias):
            return (alias or imported) in (name, "*")
        case ast.FunctionDef(name=bound) | ast.AsyncFunctionDef(name=bound) | ast.ClassDef(name=bound):
            return bound == name
    return False


def _replace(path: Path, content: bytes) -> None:
    """Put a file in place in one step, with mode and owner of the file that it replaces.

    Raises:
        OSError: It cannot be done; nothing is changed or left behind.
    """
    # Made with mode 0600.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if path.exists():
                replaced, fresh = path.stat(), os.fstat(descriptor)
                if (replaced.st_uid, replaced.st_gid) != (fresh.st_uid, fresh.st_gid):
                    os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
                os.fchmod(descriptor, replaced.st_mode & 0o7777)
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _as_text(fresh: Secrets, written_to: Path | None) -> str:
    def lines(values: Mapping[str, str]) -> list[str]:
        return [f'{name} = "{value}"' for name, value in values.items()]

    ours = f"# Written to {written_to}:" if written_to else "# For ow_config.py here:"
    return "\n".join(
        ["# For the Manager, shown this once:", *lines(fresh.for_manager()), "", ours, *lines(fresh.for_storage())]
    )


def _as_json(fresh: Secrets) -> str:
    pairs = {name: {"plain": pair.plain, "hash": pair.hash} for name, pair in fresh.tokens.items()}
    return json.dumps(pairs | {JWT_SECRET_NAME: fresh.jwt_secret}, indent=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description="Make the secrets that the storage and the Manager share.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--write",
        metavar="FILE",
        type=Path,
        help="also fill them into this configuration, made from ow_config_sample.py if it does not exist",
    )
    options = parser.parse_args(arguments)
    fresh = generate()
    if options.write:
        try:
            write_config(options.write, fresh.for_storage())
        except ConfigError as error:
            print(f"token_gen.py: {error}", file=sys.stderr)
            return 1
    print(_as_json(fresh) if options.json else _as_text(fresh, options.write))
    return 0


if __name__ == "__main__":
    sys.exit(main())
