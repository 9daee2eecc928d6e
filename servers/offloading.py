"""Handlers that block: where they run, and the two things that the service has to block on, a sleep and a disk."""

import contextlib
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from bench import contract
from servers.service_error import ServiceError

POOL_THREADS = 32

_FILE_BYTES = 64 * contract.MAX_READ_BYTES


class Pool:
    """Threads for what must not block whoever reads requests. They are made when they are needed."""

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(POOL_THREADS, "offloaded")

    def defer(self, run: Callable[[bytes], bytes], body: bytes, reply: Callable[[bytes], None]) -> None:
        """Run on one of the threads, and reply from there (see `servers.service.Defer`). `run` does not raise."""
        self._threads.submit(lambda: reply(run(body)))


def block(duration_s: float, _body: bytes) -> bytes:
    """Keep the thread, and use none of its CPU."""
    time.sleep(duration_s)
    return contract.WORK_BODY


class DataFile:
    """A file on the disk that is read past the page cache, so that each read waits for the disk. All processes of a
    server share it, if they have a folder in common. Safe to use from many threads."""

    def __init__(self, folder: str = "") -> None:
        self._folder = folder or None
        self._lock = threading.Lock()
        self._fd: int | None = None

    def read(self, size_bytes: int) -> bytes:
        """So many bytes, from a place taken by chance: the first of the fixed pattern, which the file repeats. Raises
        ServiceError 501 where the system has no way past its cache, 503 where the disk is full."""
        fd = self._open()
        offset = random.randrange(_FILE_BYTES // contract.MAX_READ_BYTES) * contract.MAX_READ_BYTES
        # The whole block: pages leave the cache in the groups (folios) that they were read in.
        os.posix_fadvise(fd, offset, contract.MAX_READ_BYTES, os.POSIX_FADV_DONTNEED)
        return os.pread(fd, size_bytes, offset)

    def _open(self) -> int:
        with self._lock:
            if self._fd is None:
                if not hasattr(os, "posix_fadvise"):
                    raise ServiceError(501, "this system has no posix_fadvise, so files come from its cache")
                try:
                    self._fd = self._made()
                except OSError as error:
                    raise ServiceError(503, f"the server's file: {error.strerror}") from None
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read ahead
            return self._fd

    def _made(self) -> int:
        path = None if self._folder is None else Path(self._folder) / "data"
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                return os.open(path, os.O_RDONLY)
        fd, name = tempfile.mkstemp(prefix="wirebench-data-", dir=self._folder)
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                for _ in range(_FILE_BYTES // contract.MAX_READ_BYTES):
                    file.write(contract.pattern(contract.MAX_READ_BYTES))
            os.fsync(fd)  # only what is on the disk can leave the cache
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if path is not None:
                Path(name).replace(path)  # another process may have made it too: one is as good as the other
        except OSError:
            os.close(fd)
            Path(name).unlink()
            raise
        if path is None:
            Path(name).unlink()
        return fd
