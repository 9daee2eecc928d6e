"""Copy on write: what a forked child shares with its parent, until it writes (fork(2))."""

import mmap
import os

import psutil

from bench.errors import UnsupportedError


def measure(megabytes: int = 200, written: float = 0.0) -> dict[str, float]:
    """Fork with that much memory in use; the child writes to a share of its pages, and is looked at."""
    size = megabytes * 1_000_000 // mmap.PAGESIZE * mmap.PAGESIZE
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)  # what is copied is a page, and that is 4 KiB
    for offset in range(0, size, mmap.PAGESIZE):
        memory[offset] = 1
    end_read, end_write = os.pipe()
    done_read, done_write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(end_write)
        for offset in range(0, int(size * written), mmap.PAGESIZE):
            memory[offset] = 2
        os.write(done_write, b"\0")
        os.read(end_read, 1)
        os._exit(0)
    os.read(done_read, 1)
    found = psutil.Process(pid).memory_full_info()
    os.close(end_write)
    os.waitpid(pid, 0)
    if not hasattr(found, "pss"):
        raise UnsupportedError("this system does not tell the memory that processes share (PSS)")
    return {"child_pss_bytes": found.pss, "child_private_bytes": found.uss}
