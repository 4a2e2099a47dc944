"""Makes the secrets that the storage and the Manager share.

Each of the three form tokens comes as a pair: the token itself, for the Manager's settings, and its bcrypt hash, for
`ow_config.py` here. The secret of the transfer JWTs is the same on both sides.

    .venv/bin/python token_gen.py [--json] [--write ow_config.py]

The exit status is 0, or 1 with a message when the configuration cannot be written, or 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# The package stands beside this file, and need not be installed.
sys.path.insert(0, str(Path(__file__).resolve().with_name("src")))

from open_workshop_storage.utils.auth.random_tokens import hash_random_token  # noqa: E402

SAMPLE = Path(__file__).resolve().with_name("ow_config_sample.py")
TOKEN_NAMES = ("upload_file", "delete_file", "storage_manage_token")
JWT_SECRET_NAME = "TRANSFER_JWT_SECRET"

_TOKEN_BYTES = 32
_JWT_SECRET_BYTES = 48


class ConfigError(Exception):
    """The configuration cannot be filled in; the text says why."""


def generate() -> tuple[dict[str, str], dict[str, str]]:
    """Return fresh secrets from the system's random source: the Manager's, and those of `ow_config.py`.

    Both have the names of the settings here. The Manager has the form tokens themselves, the storage their hashes.
    """
    plain = {name: secrets.token_urlsafe(_TOKEN_BYTES) for name in TOKEN_NAMES}
    hashes = {name: hash_random_token(token.encode()).decode() for name, token in plain.items()}
    shared = {JWT_SECRET_NAME: secrets.token_urlsafe(_JWT_SECRET_BYTES)}
    return plain | shared, hashes | shared


def write_config(path: Path, values: Mapping[str, str]) -> None:
    """Set some settings in a configuration and change nothing else; a reader sees the old file or the new one.

    Args:
        path: The configuration, made from `ow_config_sample.py` if it does not exist. Afterwards only its owner may
            read it.
        values: The texts to set, by the setting's name.

    Raises:
        ConfigError: The file cannot be read, filled in or replaced, and is as it was.
    """
    # What a symbolic link points to is replaced, not the link.
    path = path.resolve()
    try:
        _replace(path, fill_in((path if path.exists() else SAMPLE).read_text("utf-8"), values))
    except ConfigError as error:
        raise ConfigError(f"{path} {error}") from None
    except ValueError:
        raise ConfigError(f"{path} is no text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def fill_in(source: str, values: Mapping[str, str]) -> str:
    """Return a configuration with some settings set to new texts.

    Raises:
        ConfigError: A setting does not have exactly one line of its own, as in the sample.
    """
    for name, text in values.items():
        source, lines = re.subn(rf'^{name} = "[^"\\\n]*"$', f'{name} = "{text}"', source, flags=re.MULTILINE)
        if lines != 1:
            raise ConfigError(f'needs one line {name} = "…" as in {SAMPLE.name}, and has {lines}')
    return source


def _replace(path: Path, content: str) -> None:
    """Put a file in place in one step, with the owner of the file that it replaces and readable by that owner only.

    Raises:
        OSError: It cannot be done; nothing is changed or left behind.
    """
    # Made with mode 0600.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            if path.exists():
                replaced = path.stat()
                os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _as_text(for_manager: Mapping[str, str], for_storage: Mapping[str, str], written_to: Path | None) -> str:
    def lines(values: Mapping[str, str]) -> list[str]:
        return [f'{name} = "{value}"' for name, value in values.items()]

    ours = f"# Written to {written_to}:" if written_to else "# For ow_config.py here:"
    return "\n".join(["# For the Manager, shown this once:", *lines(for_manager), "", ours, *lines(for_storage)])


def _as_json(for_manager: Mapping[str, str], for_storage: Mapping[str, str]) -> str:
    pairs = {name: {"plain": for_manager[name], "hash": for_storage[name]} for name in TOKEN_NAMES}
    return json.dumps(pairs | {JWT_SECRET_NAME: for_manager[JWT_SECRET_NAME]}, indent=2)


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
    for_manager, for_storage = generate()
    if options.write:
        try:
            write_config(options.write, for_storage)
        except ConfigError as error:
            print(f"token_gen.py: {error}", file=sys.stderr)
            return 1
    as_text = _as_text(for_manager, for_storage, options.write)
    print(_as_json(for_manager, for_storage) if options.json else as_text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
