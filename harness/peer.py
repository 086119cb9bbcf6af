"""A peer: one worker process seen from the coordinator."""

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from harness.wire import decode, encode

Record = Callable[[dict[str, Any]], None]


class CaseFailure(Exception):
    """What ends a case: `status` is the outcome, the text its reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Peer:
    """A worker process and the line to it. Nothing that it starts outlives `kill`, nor the coordinator."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        record: Record,
    ) -> None:
        """Start `command` in `folder`; its stderr goes to `log`, each line of the wire to `record`."""
        self.name = name
        self.log = log
        self.record = record
        self.pending = b""
        self.memory_kills = memory_kills()
        held_end, self.lifeline = os.pipe()  # the worker ends when our end closes, even if we are killed
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*command, "--lifeline", str(held_end)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=dict(environment),
                cwd=folder,
                pass_fds=[held_end],
                start_new_session=True,
                bufsize=0,
            )
        os.close(held_end)

    def ask(self, verb: str, timeout: float, **fields: Any) -> dict[str, Any]:
        """Send a request and return the reply; raise CaseFailure if there is none, or it is a failure."""
        self.send(verb, **fields)
        return self.receive(verb, timeout)

    def send(self, verb: str, **fields: Any) -> None:
        """Send a request without waiting."""
        message = {"verb": verb, **fields}
        self.record({"to": self.name, **message})
        with contextlib.suppress(BrokenPipeError):  # a dead worker is noticed when its reply is missing
            assert self.process.stdin
            self.process.stdin.write(encode(message))

    def receive(self, verb: str, timeout: float) -> dict[str, Any]:
        """Return the reply to the request sent last."""
        line = self._line(verb, timeout)
        try:
            reply = decode(line)
        except ValueError as error:
            self.kill()
            raise CaseFailure("error", f"the worker broke the wire during {verb!r}: {error}") from error
        self.record({"from": self.name, **reply})
        if number := reply.get("errno"):  # not the case's failure: the run stops, and can go on once there is room
            self.kill()
            raise OSError(number, os.strerror(number))
        if not reply.get("ok"):
            status = {"Unavailable": "unavailable", "OutOfMemoryError": "oom"}.get(reply.get("error", ""), "error")
            message = str(reply.get("message", ""))
            raise CaseFailure(status, message if status != "error" else f"{reply.get('error')} in {verb!r}: {message}")
        return reply

    def leave(self) -> None:
        """Let the worker go; what it still holds is not worth waiting for."""
        with contextlib.suppress(CaseFailure):
            self.ask("release", 5.0)
        self.kill()

    def kill(self) -> None:
        """End the worker and every process it started."""
        with contextlib.suppress(OSError):
            os.close(self.lifeline)
            self.lifeline = -1
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()

    def _line(self, verb: str, timeout: float) -> bytes:
        """Return the next line, waiting for `timeout` seconds at most."""
        deadline = monotonic() + timeout
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.pending:
                if not selector.select(max(0.0, deadline - monotonic())):
                    self.kill()
                    raise CaseFailure("timeout", f"no reply to {verb!r} within {timeout:g} s; see {self.log.name}")
                chunk = os.read(self.process.stdout.fileno(), 1 << 16)
                if not chunk:
                    raise self._death(verb)
                self.pending += chunk
        line, _, self.pending = self.pending.partition(b"\n")
        return line

    def _death(self, verb: str) -> CaseFailure:
        """Return why the worker is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        code = self.process.returncode
        self.kill()
        if code == -signal.SIGKILL and memory_kills() > self.memory_kills:
            return CaseFailure("oom", f"the kernel killed the worker during {verb!r}: out of memory")
        if code is not None and code < 0:
            return CaseFailure(
                "error", f"the worker died of {signal.Signals(-code).name} during {verb!r}; see {self.log.name}"
            )
        return CaseFailure("error", f"the worker exited with {code} during {verb!r}: {last_line(self.log)}")


def memory_kills() -> int:
    """Return how many processes the kernel has killed for memory since it started; 0 where it does not tell."""
    with contextlib.suppress(OSError), open("/proc/vmstat") as counters:
        return next((int(line.split()[1]) for line in counters if line.startswith("oom_kill ")), 0)
    return 0


def last_line(log: Path) -> str:
    """Return the last line of a log."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"
