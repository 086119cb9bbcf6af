"""The worker: receives a verb, does it, replies; one JSON object a line, all other output goes to stderr."""

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from harness.errors import DISK, Unavailable, UserError, is_out_of_memory
from harness.wire import decode, encode

RELEASE = {"verb": "release"}
RELEASED = encode({"ok": True, **RELEASE})


def main() -> None:
    """Answer each line of stdin on the real stdout until `release` or the end of stdin."""
    parser = argparse.ArgumentParser(prog="python -m harness.worker", description=__doc__)
    parser.add_argument("--lifeline", type=int, help="a pipe's read end; when it closes, this process group ends")
    lifeline = parser.parse_args().lifeline
    if lifeline is not None:
        threading.Thread(target=end_with, args=(lifeline,), daemon=True).start()
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library that prints cannot corrupt the wire
    requests = os.fdopen(os.dup(0), "rb")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)  # a library that reads cannot eat a request
    answer = answerer()
    for line in requests:
        reply = attempt(answer, line)
        replies.write(reply)
        if reply == RELEASED:
            return


def end_with(lifeline: int) -> None:
    """Wait until the coordinator is gone, then end this process and those it started."""
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


def answerer() -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the function from message to reply; it keeps the session between calls."""
    state: dict[str, Any] = {}

    def answer(message: Mapping[str, Any]) -> dict[str, Any]:
        from harness.worker import session  # torch is imported with the first verb, so that `hello` can time it

        verb = message["verb"]
        if verb == "release":
            return RELEASE
        if verb == "hello":
            return session.hello(message)
        if verb == "probe":
            from harness.worker.ceilings import Prepared

            return state.setdefault("ceilings", Prepared()).probe(message)  # type: ignore[no-any-return]
        if verb == "build":
            state["session"] = session.Session(message)
            return state["session"].facts()  # type: ignore[no-any-return]
        if verb not in ("check", "measure", "observe", "quality", "trace", "explain", "write"):
            raise ValueError(f"no verb {verb!r}")
        if "session" not in state:
            raise ValueError(f"{verb!r} before 'build'")
        return getattr(state["session"], verb)(message)  # type: ignore[no-any-return]

    return answer


def attempt(answer: Callable[[Mapping[str, Any]], dict[str, Any]], line: bytes) -> bytes:
    """Return the reply to `line`; a failure is a reply too."""
    try:
        return encode({"ok": True, **answer(decode(line))})
    except Exception as error:
        return encode({
            "ok": False,
            "error": "OutOfMemoryError" if is_out_of_memory(error) else type(error).__name__,
            "message": str(error) if isinstance(error, Unavailable | UserError) else first_line(error),
            "traceback": traceback.format_exc(),
            "errno": disk_error(error),
        })  # fmt: skip


def disk_error(error: BaseException | None) -> int | None:
    """Return the number of the error with which a full disk caused `error`, or None; compilers only print its text."""
    while error is not None:
        for number in DISK:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return number
        error = error.__cause__ or error.__context__
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
