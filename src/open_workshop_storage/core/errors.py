"""All refusals and failures that clients and the Manager see.

Each class carries the HTTP status and the plain-text message that a client sees, and the `reason` that the
Manager is told when the failure ends a transfer (docs/API.md, "Reasons"). Routes and services raise them, and
`api/error_answers.py` turns them into answers.
"""

from __future__ import annotations


class StorageError(Exception):
    """A failure with a status, a message for people and a reason for the Manager.

    Args:
        message: Text in place of the class's own.
    """

    status = 500
    message = "Internal server error"
    reason = "exception"
    retry_after: int | None = None
    """Seconds that the client should wait, sent as `Retry-After`."""

    def __init_subclass__(
        cls, *, status: int = 0, message: str = "", reason: str = "", retry_after: int | None = None
    ) -> None:
        """Set what a subclass does not have in common with its base."""
        cls.status, cls.message = status or cls.status, message or cls.message
        cls.reason, cls.retry_after = reason or cls.reason, retry_after or cls.retry_after

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(self.message)


class BadRequest(StorageError, status=400, message="Bad request"):
    """A malformed or incomplete request; the message says what is wrong with it."""


class HeadersTooLarge(StorageError, status=431, message="Request headers too large"):
    """More bytes of header fields than the limit."""


class QueryTooLarge(StorageError, status=414, message="Query too large"):
    """More bytes or parameters in the query than the limit."""


class NothingHere(StorageError, status=404, message="Not Found"):
    """There is nothing at this address, or the setting that enables it is not set."""


class TokenMissing(StorageError, status=401, message="Token not found"):
    """No token, or an empty one."""


class AccessDenied(StorageError, status=403, message="Access denied"):
    """A token is not valid, or the access service refuses."""


class AccessServiceUnavailable(StorageError, status=503, message="Access service unavailable", retry_after=5):
    """The access service cannot be reached, or does not answer in time."""


class AccessServiceConfused(StorageError, status=502, message="Access service returned an unexpected answer"):
    """The access service answered 200 with a body that is no decision."""


class AccessServiceRefused(StorageError):
    """The access service answered with an error of its own, whose status and message are passed on."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class InvalidType(StorageError, status=400, message="Invalid type"):
    """A storage type that does not exist, or does not fit the call."""


class PathOutsideStorage(StorageError, status=423, message="Access denied"):
    """A path that leaves the folder of its type."""


class FileMissing(StorageError, status=404, message="File not found"):
    """There is no file of that name, or it is a folder."""


class EntryMissing(StorageError, status=404, message="Entry not found"):
    """The archive has no file of that name."""


class FileTooLarge(StorageError, status=413, message="File too large", reason="size_limit"):
    """More bytes than the limit on what is received."""


class NoSpace(StorageError, status=507, message="No space left", reason="no_space"):
    """The disk is full, or would be down to its reserve."""


class JobMissing(StorageError, status=404, message="Job not found"):
    """No job of that name."""


class SourceMissing(StorageError, status=404, message="Source file not found"):
    """The job has no received file, or not yet."""


class PackedMissing(StorageError, status=404, message="Packed file not found"):
    """The job has no packed file, or not yet."""


class UploadInProgress(StorageError, status=409, message="Upload already in progress"):
    """Another request or worker works on this job."""


class UploadFinished(StorageError, status=409, message="Upload already finished"):
    """The job has its file already."""


class UploadNotAccepted(StorageError, status=409, message="Upload not accepted"):
    """The file is packed, but the Manager does not want it."""


class UploadTaken(StorageError, status=423, message="Upload goes on with another request"):
    """Another request goes on with this upload."""


class UploadStalled(StorageError, status=503, message="Upload stalled", retry_after=1):
    """No byte for too long; the upload waits for its next request."""


class UploadGone(StorageError, status=410, message="Upload gone"):
    """The upload has ended with an error, or its time is over; it can only begin afresh."""


class UploadCancelled(StorageError, status=400, message="Upload cancelled"):
    """The client gave the upload up."""


class TransferCancelled(StorageError, status=400, message="Transfer cancelled"):
    """An operator ended the transfer."""


class TransferEnded(StorageError, status=409, message="Transfer already ended"):
    """The transfer has its file, or failed before."""


class CallbackMissing(StorageError, status=404, message="Callback not found"):
    """No callback of that name waits: it is delivered, given up, or never was."""


class VersionUnknown(StorageError, status=412, message="Tus version 1.0.0 expected"):
    """The request speaks another version of tus, or does not say which."""


class MediaTypeUnknown(StorageError, status=415, message="Media type application/offset+octet-stream expected"):
    """The body is of a type that the route does not take."""


class OffsetDiffers(StorageError, status=409, message="Upload offset differs"):
    """The bytes are not those that come next."""


class ChecksumDiffers(StorageError, status=460, message="Checksum differs"):
    """The bytes of the request are not those that its checksum is of (tus.io, "Checksum")."""


class DigestDiffers(StorageError, status=400, message="Digest mismatch"):
    """The received file is another one than the digest is of that the client sent (RFC 9530)."""


class StorageBusy(StorageError, status=429, message="Storage busy", retry_after=5):
    """As many uploads run as `TRANSFER_UPLOAD_CONCURRENCY` allows."""


class ServiceUnavailable(StorageError, status=503, message="Service unavailable", retry_after=5):
    """Redis, the storage root or another part that the call needs is unavailable."""


class StoreRefuses(ServiceUnavailable):
    """The object store permits a request not to this key, or has no such bucket; to wait for it is of no use."""


class NewerRecord(ServiceUnavailable):
    """A newer version of this program wrote the job's record; its workers answer for it."""


class TooManyTokens(StorageError, status=503, message="Service unavailable", retry_after=1):
    """More form tokens that were not seen before than can be compared for now."""


class UploadTimedOut(StorageError, status=408, message="Upload timed out", reason="timeout"):
    """No byte came for too long, or the whole body did not come in time."""


class ClientGone(StorageError, status=400, message="Upload interrupted"):
    """The client left before the body's end, or sent fewer bytes than it announced."""


class RawBodyExpected(StorageError, status=400, message="Send the file as the raw body"):
    """A multipart form where the body has to be the file itself."""


class TooManyPieces(StorageError, status=400, message="Body in too many small pieces"):
    """A body in so many small pieces that reading it would take seconds of CPU time."""


class UploadFailed(StorageError, status=500, message="Upload failed"):
    """Receiving failed because of a fault of this service."""


class BlockedUrl(StorageError, status=400, message="Download URL not allowed", reason="blocked_url"):
    """An address that URL transfers may not reach."""


class OriginRefused(StorageError, status=502):
    """The origin answered with a status other than success."""

    def __init__(self, origin_status: int) -> None:
        super().__init__(f"Download failed with status {origin_status}")
        self.reason = f"status:{origin_status}"


class NotAFile(StorageError, status=400, message="The link leads to a web page", reason="not_a_file"):
    """A link that leads to a web page, such as a share link, instead of a file."""


class DownloadTimedOut(StorageError, status=504, message="Download timed out", reason="timeout"):
    """The origin was silent for too long, or too slow as a whole."""


class DownloadFailed(StorageError, status=502, message="Download failed"):
    """The origin could not be reached, or broke off."""


class ArchiveRefused(StorageError):
    """An archive that does not become a packed ZIP; its subclasses say why."""


class EncryptedArchive(ArchiveRefused, status=400, message="Encrypted zip not allowed", reason="encrypted_zip"):
    """An archive with an encrypted entry or header."""


class UnsafeArchive(ArchiveRefused, status=400, message="Unsafe archive", reason="unsafe_archive"):
    """An archive with a link, a special file, or a name that escapes or stands twice."""


class CorruptArchive(ArchiveRefused, status=400, message="Corrupt archive", reason="corrupt_archive"):
    """An archive that is cut off, or fails its integrity test."""


class ArchiveTooLarge(ArchiveRefused, status=413, message="Archive too large", reason="unpacked_size_limit"):
    """More unpacked bytes than the limit, for its size too many, or too many entries."""


class UnsupportedFormat(ArchiveRefused, status=400, message="Unsupported format", reason="unsupported_format"):
    """An archive that `7z` cannot unpack, or a target format other than ZIP."""


class RepackFailed(ArchiveRefused, status=500, message="Repack failed", reason="repack_failed"):
    """`7z` failed for a reason that is not the archive's."""


class MalwareFound(StorageError, status=400, message="Malware found", reason="malware"):
    """The scanner has found something in the file, which it calls by this name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class ScannerUnavailable(StorageError, status=503, message="Scanner unavailable", retry_after=30):
    """The scanner could not judge the file, and `SCAN_FAILURE` does not let it pass."""


class ImageRefused(StorageError):
    """A file that does not become a WebP; its subclasses say why."""


class ImageExpected(ImageRefused, status=400, message="Image expected", reason="not_image"):
    """The file is no image of a known format."""


class ImageTooLarge(ImageRefused, status=413, message="Image too large", reason="size_limit"):
    """More pixels than the limit, or a side that WebP cannot hold."""


class ImagePreparationFailed(
    ImageRefused, status=500, message="Image preparation failed", reason="image_prepare_failed"
):
    """Encoding failed for a reason that is not the image's."""
