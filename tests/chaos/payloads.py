"""Files to transfer, each with what must become of it."""

from __future__ import annotations

import io
import random
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tests.support.archives import Entries, compressed_tar_of, entries_of, seven_zip_of, tar_of, zip_of
from tests.support.images import normalise

FILE_NAME = "notes.txt"
_LARGEST_FILE_BYTES = 1_500_000
_LARGEST_IMAGE_SIDE = 400


@dataclass(frozen=True)
class Payload:
    """A file to transfer.

    Attributes:
        claims: What the transfer's token has to say of it.
        reason: Why it has to be refused; `None` if it has to arrive.
        arrives: What its permanent file has to be, to the byte, if that is known.
        entries: What the archive has to hold that its permanent file is, where `arrives` is not known.
    """

    content: bytes
    claims: dict[str, object] = field(default_factory=dict)
    reason: str | None = None
    arrives: bytes | None = None
    entries: Entries = field(default_factory=dict)

    @property
    def path(self) -> str | None:
        """Where its permanent file belongs, relative to the storage root, if the claims say so."""
        path = self.claims.get("target_path")
        return None if path is None else f"{self.claims['storage_type']}/{path}"

    def problem_with(self, stored: bytes) -> str | None:
        """Return what is wrong with the permanent file, if anything is."""
        if self.arrives is not None:
            return None if stored == self.arrives else f"{len(stored)} other bytes than the {len(self.arrives)} sent"
        try:
            entries = entries_of(stored)
        except zipfile.BadZipFile as error:
            return repr(error)
        return None if entries == self.entries else f"other entries: {sorted(entries)}"


def payload(kind: str, seed: int) -> Payload:
    """Make a file of one of `KINDS`; the same one again for the same seed."""
    return _MAKERS[kind](random.Random(seed))


def _entries(rng: random.Random) -> Entries:
    files = {
        f"mod/{name}-{rng.randrange(10**6)}.bin": rng.randbytes(rng.randrange(1, _LARGEST_FILE_BYTES))
        for name in ("über uns", "textures/grass")[: rng.randint(1, 2)]
    }
    text = f"{rng.randrange(10**9)}\n".encode()
    return {"mod/descriptor.mod": text * rng.randrange(1, 50_000), "mod/empty.txt": b"", **files}


def _kept_zip(rng: random.Random) -> Payload:
    content = zip_of({**_entries(rng), "mod/zeros.bin": bytes(200_000)})
    return Payload(content, arrives=content)


def _stored_zip(rng: random.Random) -> Payload:
    entries = _entries(rng)
    return Payload(zip_of(entries, zipfile.ZIP_STORED), entries=entries)


def _seven_zip(rng: random.Random) -> Payload:
    entries = _entries(rng)
    return Payload(seven_zip_of(entries, "-mx=1"), entries=entries)


def _tar(rng: random.Random) -> Payload:
    entries = _entries(rng)
    return Payload(tar_of(entries), entries=entries)


def _compressed_tar(rng: random.Random) -> Payload:
    entries = _entries(rng)
    return Payload(compressed_tar_of(entries, rng.choice(("gz", "bz2", "xz", "zst"))), entries=entries)


def _plain(rng: random.Random) -> Payload:
    content = b"no archive" + rng.randbytes(rng.randrange(_LARGEST_FILE_BYTES))
    return Payload(content, entries={FILE_NAME: content})


def _image(rng: random.Random) -> Payload:
    width, height = (rng.randint(1, _LARGEST_IMAGE_SIDE) for _ in range(2))
    picture = io.BytesIO()
    Image.frombytes("RGB", (width, height), rng.randbytes(width * height * 3)).save(picture, "PNG")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.write_bytes(picture.getvalue())
        normalise(source, target)
        return Payload(picture.getvalue(), _image_claims(rng), arrives=target.read_bytes())


def _image_claims(rng: random.Random) -> dict[str, object]:
    storage_type = rng.choice(("resource", "avatar"))
    path = f"covers/{rng.randrange(10**12)}.webp"
    return {"transfer_kind": "img", "storage_type": storage_type, "target_path": path}


def _no_image(rng: random.Random) -> Payload:
    return Payload(rng.randbytes(5_000), _image_claims(rng), "not_image")


def _encrypted(rng: random.Random) -> Payload:
    options = rng.choice((["-psecret"], ["-psecret", "-mhe=on"], ["-psecret", "-tzip"]))
    return Payload(seven_zip_of(_entries(rng), "-mx=1", *options), reason="encrypted_zip")


def _cut_off(rng: random.Random) -> Payload:
    entries = _entries(rng)
    whole = rng.choice((zip_of(entries), seven_zip_of(entries, "-mx=1")))
    return Payload(whole[: -rng.randint(10, len(whole) // 2)], reason="corrupt_archive")


def _broken(rng: random.Random) -> Payload:
    whole = bytearray(zip_of({"mod/noise.bin": rng.randbytes(50_000), "mod/zeros.bin": bytes(50_000)}))
    # Among the bytes of the first entry.
    whole[rng.randrange(1_000, 40_000)] ^= 1
    return Payload(bytes(whole), reason="corrupt_archive")


def _climbing(rng: random.Random) -> Payload:
    return Payload(zip_of({**_entries(rng), "../evil.txt": b"outside"}), reason="unsafe_archive")


_MAKERS: dict[str, Callable[[random.Random], Payload]] = {
    "kept ZIP": _kept_zip,
    "stored ZIP": _stored_zip,
    "7z": _seven_zip,
    "tar": _tar,
    "compressed tar": _compressed_tar,
    "plain file": _plain,
    "image": _image,
    "no image": _no_image,
    "encrypted archive": _encrypted,
    "cut-off archive": _cut_off,
    "broken ZIP": _broken,
    "climbing ZIP": _climbing,
}
KINDS = tuple(_MAKERS)
"""What a transfer may carry."""
