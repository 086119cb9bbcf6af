"""Exit codes: what a shell or a CI job learns without reading."""

FINE = 0
REGRESSION = 1
MISTAKE = 2
FAILED = 3
CANNOT_TELL = 4
BUG = 70  # as EX_SOFTWARE of sysexits.h
INTERRUPTED = 130

FAILURES = ("wrong", "oom", "timeout", "error")  # the outcomes of a case that make it FAILED
