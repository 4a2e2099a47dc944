"""All refusals and failures that clients and the Manager see.

Each class carries the HTTP status and the plain-text message that a client sees, and the `reason` that the
Manager is told when the failure ends a transfer (docs/API.md, "Reasons"). Routes and services raise them, and
`api/failures.py` turns them into answers.
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

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(self.message)


class BadRequest(StorageError):
    """A malformed or incomplete request; the message says what is wrong with it."""

    status = 400
    message = "Bad request"


class HeadersTooLarge(StorageError):
    """More bytes of header fields than the limit."""

    status = 431
    message = "Request headers too large"


class QueryTooLarge(StorageError):
    """More bytes or parameters in the query than the limit."""

    status = 414
    message = "Query too large"


# Tokens and access


class TokenMissing(StorageError):
    """No token, or an empty one."""

    status = 401
    message = "Token not found"


class AccessDenied(StorageError):
    """A token is not valid, or the access service refuses."""

    status = 403
    message = "Access denied"


class AccessServiceUnavailable(StorageError):
    """The access service cannot be reached, or does not answer in time."""

    status = 503
    message = "Access service unavailable"
    retry_after = 5


class AccessServiceConfused(StorageError):
    """The access service answered 200 with a body that is no decision."""

    status = 502
    message = "Access service returned an unexpected answer"


class AccessServiceRefused(StorageError):
    """The access service answered with an error of its own, which is passed on.

    Args:
        status: The service's HTTP status.
        message: Its message for people.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


# Stored files


class InvalidType(StorageError):
    """A storage type that does not exist, or does not fit the call."""

    status = 400
    message = "Invalid type"


class PathOutsideStorage(StorageError):
    """A path that leaves the folder of its type."""

    status = 423
    message = "Access denied"


class FileMissing(StorageError):
    """There is no file of that name, or it is a folder."""

    status = 404
    message = "File not found"


class FileTooLarge(StorageError):
    """More bytes than the limit on what is received."""

    status = 413
    message = "File too large"
    reason = "size_limit"


class NoSpace(StorageError):
    """The disk is full, or would be down to its reserve."""

    status = 507
    message = "No space left"
    reason = "no_space"


# Jobs


class JobMissing(StorageError):
    """No job of that name."""

    status = 404
    message = "Job not found"


class SourceMissing(StorageError):
    """The job has no received file, or not yet."""

    status = 404
    message = "Source file not found"


class PackedMissing(StorageError):
    """The job has no packed file, or not yet."""

    status = 404
    message = "Packed file not found"


class UploadInProgress(StorageError):
    """Another request or worker works on this job."""

    status = 409
    message = "Upload already in progress"


class UploadFinished(StorageError):
    """The job has its file already."""

    status = 409
    message = "Upload already finished"


class StorageBusy(StorageError):
    """As many uploads run as `TRANSFER_UPLOAD_CONCURRENCY` allows."""

    status = 429
    message = "Storage busy"
    retry_after = 5


class ServiceUnavailable(StorageError):
    """Redis, the storage root or another part that the call needs is unavailable."""

    status = 503
    message = "Service unavailable"
    retry_after = 5


class NewerRecord(ServiceUnavailable):
    """A newer version of this program wrote the job's record; its workers answer for it."""


class UploadTimedOut(StorageError):
    """No byte came for too long, or the whole body did not come in time."""

    status = 408
    message = "Upload timed out"
    reason = "timeout"


class ClientGone(StorageError):
    """The client left before the body's end, or sent fewer bytes than it announced."""

    status = 400
    message = "Upload interrupted"


class RawBodyExpected(StorageError):
    """A multipart form where the body has to be the file itself."""

    status = 400
    message = "Send the file as the raw body"


class TooManyPieces(StorageError):
    """A body in so many small pieces that reading it would take seconds of CPU time."""

    status = 400
    message = "Body in too many small pieces"


class UploadFailed(StorageError):
    """Receiving failed because of a fault of this service."""

    status = 500
    message = "Upload failed"


# Fetches


class BlockedUrl(StorageError):
    """An address that URL transfers may not reach."""

    status = 400
    message = "Download URL not allowed"
    reason = "blocked_url"


class OriginRefused(StorageError):
    """The origin answered with a status other than success.

    Args:
        origin_status: The origin's HTTP status.
    """

    status = 502

    def __init__(self, origin_status: int) -> None:
        super().__init__(f"Download failed with status {origin_status}")
        self.reason = f"status:{origin_status}"


class NotAFile(StorageError):
    """A link that leads to a web page, such as a share link, instead of a file."""

    status = 400
    message = "The link leads to a web page"
    reason = "not_a_file"


class DownloadTimedOut(StorageError):
    """The origin was silent for too long, or too slow as a whole."""

    status = 504
    message = "Download timed out"
    reason = "timeout"


class DownloadFailed(StorageError):
    """The origin could not be reached, or broke off."""

    status = 502
    message = "Download failed"


# Archives


class ArchiveRefused(StorageError):
    """An archive that does not become a packed ZIP; its subclasses say why."""


class EncryptedArchive(ArchiveRefused):
    """An archive with an encrypted entry or header."""

    status = 400
    message = "Encrypted zip not allowed"
    reason = "encrypted_zip"


class UnsafeArchive(ArchiveRefused):
    """An archive with a link, a special file, or a name that escapes or stands twice."""

    status = 400
    message = "Unsafe archive"
    reason = "unsafe_archive"


class CorruptArchive(ArchiveRefused):
    """An archive that is cut off, or fails its integrity test."""

    status = 400
    message = "Corrupt archive"
    reason = "corrupt_archive"


class ArchiveTooLarge(ArchiveRefused):
    """More unpacked bytes than the limit, for its size too many, or too many entries."""

    status = 413
    message = "Archive too large"
    reason = "unpacked_size_limit"


class UnsupportedFormat(ArchiveRefused):
    """An archive that `7z` cannot unpack, or a target format other than ZIP."""

    status = 400
    message = "Unsupported format"
    reason = "unsupported_format"


class RepackFailed(ArchiveRefused):
    """`7z` failed for a reason that is not the archive's."""

    status = 500
    message = "Repack failed"
    reason = "repack_failed"


# Images


class ImageRefused(StorageError):
    """A file that does not become a WebP; its subclasses say why."""


class ImageExpected(ImageRefused):
    """The file is no image of a known format."""

    status = 400
    message = "Image expected"
    reason = "not_image"


class ImageTooLarge(ImageRefused):
    """More pixels than the limit, or a side that WebP cannot hold."""

    status = 413
    message = "Image too large"
    reason = "size_limit"


class ImagePreparationFailed(ImageRefused):
    """Encoding failed for a reason that is not the image's."""

    status = 500
    message = "Image preparation failed"
    reason = "image_prepare_failed"
