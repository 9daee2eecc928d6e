"""Uploads in pieces: a body that arrives by several requests, goes on where it was cut, and is checked at its end."""

import contextlib
import hashlib
import secrets
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from typing import IO

from bench import contract
from servers.service_error import ServiceError

MAX_UPLOADS = 256
ABANDONED_S = 600.0
"""An upload that nothing was added to for so long may make room for another."""

MAX_ENDED = 256
"""So many that have ended last are remembered, so that whoever lost the receipt can ask for it again."""


class _Upload:
    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.offset = 0
        self.touched_s = time.monotonic()
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the upload ends)
        self.lock = threading.Lock()
        self.digest = b""
        """Its SHA-256 in hexadecimal digits, once it has ended."""


def _close_all(uploads: dict[str, _Upload]) -> None:
    for upload in uploads.values():
        upload.file.close()


def _digest(file: IO[bytes]) -> bytes:
    file.seek(0)
    found = hashlib.sha256()
    while piece := file.read(1 << 20):
        found.update(piece)
    return found.hexdigest().encode()


class Uploads:
    """The uploads of a process that are not complete, and those that have ended last. Safe to use from many threads."""

    def __init__(self) -> None:
        self._uploads: dict[str, _Upload] = {}
        self._ended: dict[str, _Upload] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._uploads)

    def create(self, size_bytes: int) -> bytes:
        """Begin an upload. Raises ServiceError 413 for one that is too long, 503 for one too many."""
        if size_bytes > contract.MAX_BODY_BYTES:
            raise ServiceError(413, f"an upload is at most {contract.MAX_BODY_BYTES} bytes long")
        upload_id = secrets.token_hex(8)
        with self._lock:
            before_s = time.monotonic() - ABANDONED_S
            old_ids = [old_id for old_id, upload in self._uploads.items() if upload.touched_s < before_s]
            abandoned = [self._uploads.pop(old_id) for old_id in old_ids]
            is_full = len(self._uploads) >= MAX_UPLOADS
            if not is_full:
                self._uploads[upload_id] = _Upload(size_bytes)
        for upload in abandoned:  # not under the lock of all: whoever holds an upload's own may wait for that
            with upload.lock:
                upload.file.close()
        if is_full:
            raise ServiceError(503, f"there are {MAX_UPLOADS} uploads already")
        return contract.encode_upload(upload_id, 0)

    def offset(self, upload_id: str) -> bytes:
        """How much has arrived. Raises ServiceError 404."""
        with self._held(upload_id) as upload:
            return contract.encode_upload(upload_id, upload.offset)

    def write(self, upload_id: str, offset: int, chunk: bytes) -> bytes:
        """Take a piece. One that is there already, byte for byte, is taken again without effect.

        Raises ServiceError 404; 409 for a piece that does not follow, or differs from what is there, or of an upload
        that has ended; 413 for one that is too long.
        """
        with self._held(upload_id) as upload:
            if upload.digest:
                raise ServiceError(409, "the upload has ended")
            if offset + len(chunk) > upload.size_bytes:
                raise ServiceError(
                    413, f"the upload is {upload.size_bytes} bytes long, and this piece ends behind that"
                )
            if offset != upload.offset:
                if offset + len(chunk) > upload.offset:
                    raise ServiceError(409, f"the next piece begins at {upload.offset}, not {offset}")
                upload.file.seek(offset)
                if upload.file.read(len(chunk)) != chunk:
                    raise ServiceError(409, f"at {offset} there are other bytes already; next is {upload.offset}")
            else:
                upload.file.seek(offset)
                upload.file.write(chunk)
                upload.offset += len(chunk)
            upload.touched_s = time.monotonic()
            return contract.encode_upload(upload_id, upload.offset)

    def finish(self, upload_id: str, digest: bytes) -> bytes:
        """The receipt of a whole upload, whose SHA-256 is given in hexadecimal digits. It ends by that; whoever asks
        again gets the same receipt.

        Raises ServiceError 404; 409 if something is missing; 422 if the digest is another.
        """
        with self._held(upload_id) as upload:
            if upload.offset != upload.size_bytes:
                raise ServiceError(
                    409, f"{upload.size_bytes - upload.offset} bytes are missing from {upload.offset} on"
                )
            found = upload.digest or _digest(upload.file)
            if found != digest.strip().lower():
                raise ServiceError(422, f"the SHA-256 of what arrived is {found.decode()}")
            if not upload.digest:
                upload.digest = found
                upload.file.close()
                self._remember(upload_id)
            return contract.upload_receipt(upload.size_bytes, bytes.fromhex(found.decode()))

    def _remember(self, upload_id: str) -> None:
        """An upload has ended."""
        with self._lock:
            upload = self._uploads.pop(upload_id, None)
            if upload is not None:
                self._ended[upload_id] = upload
            if len(self._ended) > MAX_ENDED:
                del self._ended[next(iter(self._ended))]

    @contextlib.contextmanager
    def _held(self, upload_id: str) -> Iterator[_Upload]:
        """An upload that nobody else touches meanwhile. Raises ServiceError 404."""
        with self._lock:
            upload = self._uploads.get(upload_id) or self._ended.get(upload_id)
        if upload is not None:
            with upload.lock:
                if upload.digest or not upload.file.closed:  # it may have been abandoned meanwhile
                    yield upload
                    return
        raise ServiceError(404, f"no such upload: {upload_id:.40}")
