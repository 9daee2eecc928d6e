"""Forked processes, under a main process that runs one thread and no event loop: forking copies nothing that runs."""

import contextlib
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from servers.control import Control
from servers.execution.model import STOP_MARGIN_S, describe

_PR_SET_PDEATHSIG = 1  # prctl(2)
_DECIDED_BY_SUPERVISOR = {signal.SIGINT, signal.SIGTERM}
_MAX_REPORT_BYTES = 512  # a write of no more than PIPE_BUF bytes is not mixed with another's (POSIX)


class Children:
    """The worker processes of this one: forked, listened to, and reaped.

    None outlives its supervisor. Each can see that `lifeline_fd` has come to its end, which says stop and which it also
    says when the supervisor has gone; on Linux the kernel kills it then. A terminal's Ctrl-C and a SIGTERM to the whole
    group leave it alone: the supervisor decides.
    """

    def __init__(self, control: Control, on_end: Callable[[int, int, str], None]) -> None:
        """`on_end(worker, code, reason)` is called when a worker has ended, with its exit code (negative: a signal) and
        what can be said of it."""
        self.live: dict[int, int] = {}
        """The workers that run: process id to worker."""
        self.lifeline_fd, self._lifeline_write_fd = os.pipe()
        self.on_serving: Callable[[int], None] = lambda worker: None
        self._control = control
        self._on_end = on_end
        self._report_read_fd, self._report_write_fd = os.pipe()
        os.set_blocking(self._report_read_fd, False)
        self._reasons: dict[int, str] = {}
        self._prctl = _find_prctl()
        control.watch(self._report_read_fd, self._read_reports)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: control.post(self._reap))
        gc.freeze()  # what exists now is not touched by a child's collector, and stays shared

    def fork(self, worker: int, run: Callable[[], None], on_terminate: Callable[[], None] | None = None) -> None:
        """Start a worker process that calls `run` and ends. `on_terminate` is called in it, by a signal handler, when
        it is to stop. Raises OSError if there is no process to be had."""
        supervisor_pid = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _DECIDED_BY_SUPERVISOR)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_child(supervisor_pid, run, on_terminate)
            self.live[pid] = worker
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def report_serving(self) -> None:
        """Tell the supervisor that the calling worker process serves."""
        self._report("")

    def stop(self) -> None:
        """Ask every worker to stop gracefully."""
        os.close(self._lifeline_write_fd)
        self._signal_all(signal.SIGTERM)

    def join(self) -> None:
        """Wait until every worker has ended, and kill those that take longer than the grace and a margin."""
        for end_s in (self._control.spec.grace_s + STOP_MARGIN_S, STOP_MARGIN_S):
            until = time.monotonic() + end_s
            while self.live and time.monotonic() < until:
                self._control.wait(until - time.monotonic())
            self._signal_all(signal.SIGKILL)

    def _signal_all(self, signal_number: signal.Signals) -> None:
        for pid in self.live:  # none of them has been waited for, so the number is still theirs
            os.kill(pid, signal_number)

    def _be_child(self, supervisor_pid: int, run: Callable[[], None], on_terminate: Callable[[], None] | None) -> None:
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, (lambda _number, _frame: on_terminate()) if on_terminate else signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _DECIDED_BY_SUPERVISOR)
            self._control.close_in_child()
            os.close(self._lifeline_write_fd)
            os.close(self._report_read_fd)
            if self._prctl is not None:
                self._prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
            if os.getppid() == supervisor_pid:
                run()
            status = 0
        except BaseException as error:  # noqa: BLE001  whatever ends a worker is reported
            traceback.print_exc()
            self._report(describe(error))
        finally:
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os._exit(status)  # what the supervisor has on its stack is not for the child to go back to

    def _report(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._report_write_fd, f"{os.getpid()} {text}".encode()[: _MAX_REPORT_BYTES - 1] + b"\n")

    def _read_reports(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._report_read_fd, 65536):
                for line in data.decode(errors="replace").splitlines():
                    pid, _, reason = line.partition(" ")
                    if reason:
                        self._reasons[int(pid)] = reason
                    elif int(pid) in self.live:
                        self.on_serving(self.live[int(pid)])

    def _reap(self) -> None:
        while self.live:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            self._read_reports()  # all that it wrote is there now
            worker = self.live.pop(pid)
            self._control.counters[worker].reclaim(pid, round((usage.ru_utime + usage.ru_stime) * 1e9))
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                reason = f"killed by {signal.Signals(-code).name}"
            else:
                reason = f"exited with status {code}: {self._reasons.pop(pid, '')}".rstrip(": ")
            self._on_end(worker, code, reason)


def _find_prctl() -> Any:
    """prctl(2); None where there is none."""
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None, use_errno=True).prctl
