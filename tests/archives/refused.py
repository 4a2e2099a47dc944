"""Archives that are refused, each under the error that it is refused with."""

from __future__ import annotations

import gzip
import lzma
import random
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from open_workshop_storage.core.errors import (
    CorruptArchive,
    EncryptedArchive,
    StorageError,
    UnsafeArchive,
    UnsupportedFormat,
)
from tests.archives.rars import (
    HARD_LINK,
    JUNCTION,
    NORMAL,
    RAR5_MAGIC,
    SYMLINK,
    WINDOWS_SYMLINK,
    encrypted5,
    encrypted_headers5,
    file4,
    file5,
    link5,
    rar4,
    rar5,
)
from tests.archives.tars import long_name, member, negative_size, tar_from
from tests.archives.zips import (
    ENCRYPTED,
    FAT,
    SIZES_FOLLOW,
    UTF8,
    Entry,
    local_header,
    overlapping,
    streamed,
    unicode_path,
    zip_from,
)
from tests.support.archives import COMPRESS, SMALL_MOD, compressed_tar_of, seven_zip_of, tar_of, zip_of

Builders = dict[str, Callable[[], bytes]]

TEXT = b"some text that can be compressed " * 50
SOUND = Entry(b"sound.txt", TEXT)
NOISE = {"noise": random.Random(5).randbytes(100_000)}
CHECKED_COMPRESSIONS = ("gz", "bz2", "xz")
COMPRESSIONS = (*CHECKED_COMPRESSIONS, "zst")
NAMES_THAT_ESCAPE = {
    "a climbing name": "../evil",
    "a name that climbs inside": "a/b/../../../evil",
    "a name that climbs with backslashes": "a\\..\\..\\evil",
    "a name of two dots": "..",
    "an absolute name": "/etc/evil",
    "an absolute name with a backslash": "\\evil",
    "a network share": "\\\\server\\share\\evil",
    "a drive": "C:/evil",
    "a drive and a backslash": "c:\\evil",
    "a drive and no slash": "C:evil",
    "a drive after a dot": "./C:/evil",
}


def cut(archive: bytes, at: float = 0.5) -> bytes:
    """Return the first part of an archive."""
    return archive[: int(len(archive) * at)]


def flipped(archive: bytes, at: float = 0.5) -> bytes:
    """Return an archive with one byte wrong."""
    position = int(len(archive) * at)
    return archive[:position] + bytes([archive[position] ^ 0xFF]) + archive[position + 1 :]


def zip_named(name: str) -> bytes:
    """Return a ZIP with an entry of that name after a sound one."""
    return zip_from([SOUND, Entry(name.encode(), TEXT)])


def rar_named(name: str) -> bytes:
    """Return a RAR with an entry of that name."""
    return rar5(file5(name.encode(), TEXT))


def tar_with(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return a tar with the members after a sound one."""
    return tar_from([member("sound.txt", TEXT), *members])


def tar_named(name: str) -> bytes:
    """Return a tar with an entry of that name after a sound one."""
    return tar_with(member(name, TEXT))


def tar_of_kind(kind: bytes) -> bytes:
    """Return a tar with an entry of that type after a sound file."""
    return tar_with(member("special", kind=kind, linkname="sound.txt"))


def tar_without_end() -> bytes:
    """Return a tar that ends with its last entry."""
    return tar_with()[: -(-len(TEXT) // 512) * 512 + 512]


def compressed_cut(compression: str) -> bytes:
    """Return a compressed tar that is cut off."""
    return cut(compressed_tar_of(NOISE, compression))


def compressed_flipped(compression: str) -> bytes:
    """Return a compressed tar with one byte wrong."""
    return flipped(compressed_tar_of(NOISE, compression), 0.6)


def two_end_records() -> bytes:
    """Return a ZIP whose comment is another directory of the same entries, with an end record of its own."""
    archive = zip_from([SOUND])
    at = archive.index(b"PK\1\2")
    directory = archive[at:-22]
    comment = directory + archive[-22:-6] + struct.pack("<IH", len(archive), 0)
    return archive[:-2] + struct.pack("<H", len(comment)) + comment


def greedy_seven_zip() -> bytes:
    """Return a 7z archive that wants more memory to be unpacked than it is given: 4 GiB."""
    archive = bytearray(seven_zip_of({"text": TEXT}, "-m0=PPMd", "-mhc=off"))
    start, size = struct.unpack_from("<QQ", archive, 12)
    header = archive[32 + start : 32 + start + size]
    # The method's number, the length of its properties, and behind the order the memory.
    at = header.index(bytes([3, 4, 1, 5])) + 5
    header[at : at + 4] = struct.pack("<I", 0xFFFFFFFF - 36)
    archive[32 + start :] = header
    archive[28:32] = struct.pack("<I", zlib.crc32(header))
    archive[8:12] = struct.pack("<I", zlib.crc32(archive[12:32]))
    return bytes(archive)


def bomb_that_lies_twice() -> bytes:
    """Return a ZIP whose directory and whose sizes behind the data tell the same, and less than comes out."""
    entry = Entry(b"bomb", bytes(9_000_000))
    sizes = struct.pack("<4sIII", b"PK\7\x08", zlib.crc32(entry.content), len(entry.packed()), 900_000)
    return zip_from([replace(streamed(entry), size=900_000, after=sizes)])


def raw_deflate(text: bytes) -> bytes:
    """Return data as a ZIP holds them with method 8."""
    return Entry(b"", text).packed()


def raw_lzma(text: bytes, dictionary: int = 1 << 23) -> bytes:
    """Return data as a ZIP holds them with method 14 (APPNOTE 5.8.8)."""
    # The version, the size of what follows, the usual parameters, and the dictionary.
    head = struct.pack("<2xHBI", 5, 0x5D, dictionary)
    return head + lzma.compress(text, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1}])


def greedy_zip() -> bytes:
    """Return a ZIP whose only entry wants a dictionary of 4 GiB to be unpacked."""
    return zip_from([Entry(b"a", TEXT, method=14, packed_as=raw_lzma(TEXT, 0xFFFFFFFF))])


def zip_of_a_beginning(method: int, pack: Callable[[bytes], bytes]) -> bytes:
    """Return a ZIP whose headers know of the beginning of its data only, and of the checksum of that."""
    return zip_from([Entry(b"a", TEXT, method=method, packed_as=pack(TEXT * 100))])


def hidden_behind(entry: Entry) -> bytes:
    """Return a ZIP whose only entry has another behind its data, which count as part of them."""
    hidden = Entry(b"hidden", TEXT)
    return zip_from([replace(entry, packed_as=entry.packed() + entry.after + local_header(hidden) + hidden.packed())])


def seven_zip_after(command: str) -> bytes:
    """Return a 7z archive of what a shell command makes."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(f"{command} && 7z a -snl -bso0 archive.7z .", shell=True, cwd=folder, check=True)
        with open(f"{folder}/archive.7z", "rb") as archive:
            return archive.read()


_ENCRYPTED: Builders = {
    "zip with ZipCrypto": lambda: seven_zip_of(SMALL_MOD, "-tzip", "-psecret", "-mem=ZipCrypto"),
    "zip with AES": lambda: seven_zip_of(SMALL_MOD, "-tzip", "-psecret", "-mem=AES256"),
    "zip with one encrypted entry": lambda: zip_from([SOUND, Entry(b"secret", TEXT, flags=ENCRYPTED)]),
    "zip with strong encryption": lambda: zip_from([Entry(b"secret", TEXT, flags=0x0040), SOUND]),
    "zip with the AES method": lambda: zip_from([Entry(b"secret", TEXT, method=99)]),
    "zip that says so in a local header only": lambda: zip_from([Entry(b"secret", TEXT, local_flags=ENCRYPTED)]),
    "7z with encrypted data": lambda: seven_zip_of(SMALL_MOD, "-psecret"),
    "7z with encrypted headers": lambda: seven_zip_of(SMALL_MOD, "-psecret", "-mhe"),
    "rar 5 with encrypted data": lambda: rar5(file5(b"secret", bytes(16), extra=encrypted5())),
    "rar 5 with encrypted headers": encrypted_headers5,
    "rar 4 with encrypted data": lambda: rar4(file4(b"secret", bytes(16), flags=0x0004)),
    "rar 4 with encrypted headers": lambda: rar4(flags=0x0080) + bytes(100),
}

_UNSAFE_NAMES: Builders = {
    **{f"zip with {case}": partial(zip_named, name) for case, name in NAMES_THAT_ESCAPE.items()},
    **{f"rar with {case}": partial(rar_named, name) for case, name in NAMES_THAT_ESCAPE.items()},
    **{f"tar with {case}": partial(tar_named, name) for case, name in NAMES_THAT_ESCAPE.items()},
    "rar 4 with a climbing name in a code page": lambda: rar4(file4("性能\\..\\..\\evil".encode("cp932"), TEXT)),
    "rar 4 with one name twice in a code page": lambda: rar4(*[file4("性能/説明".encode("cp932"), TEXT)] * 2),
    "compressed tar with a climbing name": lambda: compressed_tar_of({"../evil": TEXT}, "zst"),
    "zip with NUL in a name": lambda: zip_named("good.txt\0../../evil"),
    "zip with no name": lambda: zip_named(""),
    "zip with a name that climbs in a Unicode path": lambda: zip_from(
        [Entry(b"good", TEXT, extra=unicode_path(b"good", "../evil"))]
    ),
    "zip with a name that climbs behind a good Unicode path": lambda: zip_from(
        [Entry(b"../evil", TEXT, extra=unicode_path(b"../evil", "good"))]
    ),
    "zip with a name longer than file systems take": lambda: zip_named("x" * 256),
    "zip with a path longer than file systems take": lambda: zip_named("folder/" * 600 + "file"),
    "zip with folders that are too deep": lambda: zip_named("a/" * 128 + "file"),
    "tar with folders that are too deep": lambda: tar_named("a/" * 1200 + "file"),
    "tar with a name that climbs in an extended header": lambda: tar_from(
        [member("good", TEXT, pax_headers={"path": "../evil"})], tarfile.PAX_FORMAT
    ),
    "tar with NUL in an extended header": lambda: tar_from(
        [member("good", TEXT, pax_headers={"path": "good\0evil"})], tarfile.PAX_FORMAT
    ),
}

_NAMES_THAT_STAND_TWICE: Builders = {
    "zip with two entries of one name": lambda: zip_named("sound.txt"),
    "zip with a file and a folder of one name": lambda: zip_from([SOUND, Entry(SOUND.name + b"/", mode=0o040755)]),
    "zip with a file below a file": lambda: zip_named("sound.txt/below"),
    "zip with a file where a folder is": lambda: zip_from([Entry(b"a/b", TEXT), Entry(b"a", TEXT)]),
    "zip with one name written in two ways": lambda: zip_from([Entry(b"a/b", TEXT), Entry(b"./a//b", TEXT)]),
    "zip with one name once with a backslash": lambda: zip_from([Entry(b"a/b", TEXT), Entry(b"a\\b", TEXT)]),
    "zip with one name in two encodings": lambda: zip_from(
        [Entry("ü".encode("cp437"), TEXT), Entry("ü".encode(), TEXT, flags=UTF8)]
    ),
    "zip with one name again as a Unicode path": lambda: zip_from(
        [SOUND, Entry(b"x", TEXT, extra=unicode_path(b"x", "sound.txt"))]
    ),
    "rar with two entries of one name": lambda: rar5(file5(b"a", TEXT), file5(b"a", TEXT)),
    "tar with two entries of one name": lambda: tar_named("sound.txt"),
    "tar with a file below a file": lambda: tar_named("sound.txt/below"),
}

_LINKS_AND_SPECIAL_FILES: Builders = {
    "zip with a symbolic link": lambda: zip_from([Entry(b"link", b"/etc/passwd", mode=0o120777)]),
    "zip with a device": lambda: zip_from([Entry(b"device", mode=0o020666)]),
    "zip with a pipe": lambda: zip_from([Entry(b"pipe", mode=0o010666)]),
    "zip with a Windows link": lambda: zip_from([Entry(b"link", system=FAT, dos_attributes=0x0400)]),
    "7z with a symbolic link": lambda: seven_zip_after("ln -s /etc/passwd link"),
    "7z with a pipe": lambda: seven_zip_after("mkfifo pipe"),
    "rar 5 with a symbolic link": lambda: rar5(file5(b"link", mode=0o120777, extra=link5(SYMLINK, b"/etc"))),
    "rar 5 with a hard link": lambda: rar5(file5(b"a", TEXT), file5(b"b", extra=link5(HARD_LINK, b"a"))),
    "rar 5 with a link whose target looks like a line of a listing": lambda: rar5(
        file5(b"a", TEXT), file5(b"link", extra=link5(SYMLINK, b"\n/etc/passwd"))
    ),
    "rar 5 with a Windows link": lambda: rar5(file5(b"link", extra=link5(WINDOWS_SYMLINK, b"C:\\Windows"))),
    "rar 5 with a junction": lambda: rar5(file5(b"link", extra=link5(JUNCTION, b"C:\\Windows"))),
    "rar 4 with a symbolic link": lambda: rar4(file4(b"link", b"/etc/passwd", mode=0o120777)),
    "tar with a symbolic link": partial(tar_of_kind, tarfile.SYMTYPE),
    "tar with a hard link": partial(tar_of_kind, tarfile.LNKTYPE),
    "tar with a character device": partial(tar_of_kind, tarfile.CHRTYPE),
    "tar with a block device": partial(tar_of_kind, tarfile.BLKTYPE),
    "tar with a pipe": partial(tar_of_kind, tarfile.FIFOTYPE),
    "tar with an entry of an unknown type": partial(tar_of_kind, b"!"),
    "compressed tar with a link and a file through it": lambda: gzip.compress(
        tar_with(member("link", kind=tarfile.SYMTYPE, linkname="/tmp"), member("link/evil", TEXT))
    ),
}

_OVERLAPS: Builders = {
    "zip with an entry inside another": lambda: overlapping(TEXT),
    "zip with one entry listed under two names": lambda: zip_from(
        [SOUND, replace(SOUND, name=b"again", offset=0, written=False)]
    ),
}

_CORRUPT_ZIPS: Builders = {
    "zip cut off": lambda: cut(zip_of(SMALL_MOD)),
    "zip cut off in its directory": lambda: zip_of(SMALL_MOD)[:-40],
    "zip without a directory": lambda: local_header(SOUND) + SOUND.packed(),
    "zip with a wrong byte in its data": lambda: flipped(zip_of({"text": TEXT * 100, **NOISE})),
    "stored zip with a wrong byte in its data": lambda: flipped(zip_of(NOISE, 0)),
    "zip that unpacks to more than it says": lambda: zip_from([Entry(b"bomb", bytes(9_000_000), size=20_000)]),
    "zip that unpacks to more than it says in one of two places": lambda: zip_from(
        [streamed(Entry(b"bomb", bytes(9_000_000), size=20_000))]
    ),
    "zip whose directory alone says that sizes follow the data": lambda: zip_from(
        [Entry(b"a", TEXT, flags=SIZES_FOLLOW, local_flags=0)]
    ),
    "zip that unpacks to more than it says in both places": bomb_that_lies_twice,
    "zip that unpacks to less than it says in one of two places": lambda: zip_from(
        [streamed(Entry(b"small", TEXT, size=len(TEXT) * 2))]
    ),
    **{
        f"zip of {method} that goes on behind what it says, checksum included": partial(zip_of_a_beginning, *how)
        for method, how in {
            "Deflate": (8, raw_deflate),
            "BZip2": (12, COMPRESS["bz2"]),
            "BZip2 in two streams": (12, lambda text: COMPRESS["bz2"](text[: len(TEXT)]) + COMPRESS["bz2"](text)),
            "LZMA": (14, raw_lzma),
            "Zstandard": (93, COMPRESS["zst"]),
        }.items()
    },
    "stored zip that unpacks to more than it says": lambda: zip_from([Entry(b"bomb", TEXT, method=0, size=9)]),
    "zip that unpacks to less than it says": lambda: zip_from([Entry(b"small", TEXT, size=len(TEXT) * 2)]),
    "zip with another name in the local header": lambda: zip_from([Entry(b"a", TEXT, local_name=b"b")]),
    "zip with another method in the local header": lambda: zip_from([Entry(b"a", TEXT, local_method=0)]),
    "zip with another size in the local header": lambda: zip_from([Entry(b"a", TEXT, local_size=9)]),
    "zip with another packed size in the local header": lambda: zip_from([Entry(b"a", TEXT, local_packed=9)]),
    "zip with another checksum in the local header": lambda: zip_from([Entry(b"a", TEXT, local_crc=9)]),
    "zip with another Unicode path in the local header": lambda: zip_from(
        [Entry(b"a", TEXT, local_extra=unicode_path(b"a", "b"))]
    ),
    "zip with another large size in the local header": lambda: zip_from(
        [Entry(b"a", TEXT, local_size=0xFFFFFFFF, local_extra=struct.pack("<HHQ", 1, 8, 9))]
    ),
    "zip with a large size that is nowhere": lambda: zip_from([Entry(b"a", TEXT, size=0xFFFFFFFF)]),
    "zip with two Unicode paths for one entry": lambda: zip_from(
        [Entry(b"a", TEXT, extra=unicode_path(b"a", "b") + unicode_path(b"a", "c"))]
    ),
    "zip with a second end record in its comment": two_end_records,
    "zip with an entry beyond the end of all files": lambda: zip_from(
        [Entry(b"a", TEXT, offset=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 2**64 - 1))]
    ),
    "zip with an entry where no header is": lambda: zip_from([replace(SOUND, offset=7)]),
    "zip with an entry that runs into the directory": lambda: zip_from([Entry(b"a", TEXT, packed_size=5000)]),
    "zip with an entry behind another's packed data": lambda: hidden_behind(Entry(b"a", TEXT)),
    "zip with an entry behind another's packed data, sizes after them": lambda: hidden_behind(
        streamed(Entry(b"a", TEXT))
    ),
    "zip with a folder that has data": lambda: zip_from([Entry(b"a/", TEXT)]),
    "zip with fewer entries than it says": lambda: zip_from([SOUND], count=2),
    "zip with more entries than it says": lambda: zip_from([SOUND, Entry(b"a", TEXT)], count=1),
    "zip with its directory in another place": lambda: zip_from([SOUND, Entry(b"a", TEXT)], directory_shift=5),
    "zip after another zip": lambda: zip_from([Entry(b"a", TEXT)]) + zip_from([Entry(b"b", TEXT)]),
    "zip after another zip and the mark of a single piece": lambda: zip_from(
        [Entry(b"a", TEXT, before=b"PK00"), Entry(b"b", TEXT)]
    )
    + zip_from([Entry(b"c", TEXT)]),
    "empty zip after another zip": lambda: zip_from([Entry(b"a")]) + zip_from([]),
    "zip in several pieces, the first": lambda: b"PK\7\x08" + cut(zip_of(SMALL_MOD)),
    "zip in several pieces, the last": lambda: zip_from([replace(SOUND, volume=1)], disk=1),
}

_CORRUPT_OTHERS: Builders = {
    "7z cut off": lambda: cut(seven_zip_of(SMALL_MOD)),
    "7z in several pieces, the first": lambda: seven_zip_of(NOISE, "-mx=0")[:60_000],
    "7z with a wrong byte in its data": lambda: flipped(seven_zip_of(NOISE)),
    "7z with a wrong byte in its headers": lambda: flipped(seven_zip_of(NOISE), 0.9999),
    "7z of nothing but its magic": lambda: b"7z\xbc\xaf\x27\x1c" + bytes(50),
    "rar 5 cut off": lambda: cut(rar5(file5(b"a", TEXT))),
    "rar 5 without its end": lambda: rar5(file5(b"a", TEXT))[:-8],
    "rar 5 with a wrong checksum": lambda: rar5(file5(b"a", TEXT, crc=1)),
    "rar 5 in several pieces": lambda: rar5(file5(b"a", TEXT), volume=True),
    "rar 5 of nothing but its magic": lambda: RAR5_MAGIC,
    "rar 4 cut off": lambda: cut(rar4(file4(b"a", TEXT))),
    "rar 4 in several pieces": lambda: rar4(file4(b"a", TEXT, flags=0x0002), flags=0x0001),
}

_CORRUPT_TARS: Builders = {
    "tar cut off": lambda: cut(tar_of(SMALL_MOD)),
    "tar cut off between two entries": tar_without_end,
    "tar with a broken header after a sound one": lambda: tar_without_end() + b"broken" * 300,
    "tar with a size below nothing": lambda: tar_without_end() + negative_size() + bytes(1024),
    "tar with headers that are too long": lambda: long_name(8 * 1024 * 1024),
    "compressed tar with headers that are too long": lambda: gzip.compress(long_name(64 * 1024 * 1024), 1),
    "tar with too many headers before an entry": lambda: long_name(1) * 900 + tar_with(),
    "compressed tar that is nothing but headers": lambda: gzip.compress(
        tar_from([member(str(n), pax_headers={"comment": "x" * 100_000}) for n in range(20)], tarfile.PAX_FORMAT)
    ),
    "tar with too many headers for all entries": lambda: tarfile.TarInfo.create_pax_global_header(
        {f"comment {number}": "x" for number in range(65)}
    )
    + tar_with(),
    **{f"tar.{form} cut off": partial(compressed_cut, form) for form in COMPRESSIONS},
    **{f"tar.{form} with a wrong byte": partial(compressed_flipped, form) for form in CHECKED_COMPRESSIONS},
    "tar.gz of a tar cut off": lambda: gzip.compress(cut(tar_of(SMALL_MOD))),
    "tar.gz of a tar without its end": lambda: gzip.compress(tar_without_end()),
}

_UNSUPPORTED: Builders = {
    "7z that wants more memory than it is given": greedy_seven_zip,
    "zip that wants more memory than it is given": greedy_zip,
    "rar 5 with a compressed file": lambda: rar5(file5(b"a", TEXT, method=NORMAL)),
    "rar 4 with a compressed file": lambda: rar4(file4(b"a", TEXT, method=NORMAL)),
    "zip with an unknown method": lambda: zip_from([Entry(b"a", TEXT, method=77)]),
}

REFUSED: dict[type[StorageError], Builders] = {
    EncryptedArchive: _ENCRYPTED,
    UnsafeArchive: _UNSAFE_NAMES | _NAMES_THAT_STAND_TWICE | _LINKS_AND_SPECIAL_FILES | _OVERLAPS,
    CorruptArchive: _CORRUPT_ZIPS | _CORRUPT_OTHERS | _CORRUPT_TARS,
    UnsupportedFormat: _UNSUPPORTED,
}
"""Builders by the error that their archive is refused with."""
