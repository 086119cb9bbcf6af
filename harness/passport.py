"""A passport: the ceilings of a machine, as a run of a hardware suite measured them, and what follows from them.

A passport on disk is the JSON report of such a run. Those of this machine are kept in the cache folder by fingerprint,
and tell each later run on it what its peak is.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.calibration import ratio, strayed
from harness.errors import UserError
from harness.spec import Variant, Workload, construct, workload_from

REPORT_FORMAT = 1  # of `tandem report --format json`
MEASURING = 1
"""Version of how ceilings are measured: figures of another are not compared."""
HINT = "make one with `tandem hardware`, then `tandem report RUN --format json -o FILE`"
LARGE = 2**28  # bytes that `ceilings/memory` works on where nothing is said
UNREADABLE = (UserError, LookupError, TypeError, ValueError, AttributeError)
PROBES = ("gemm_seconds", "copy_seconds")
SAME_PEAK = {"bf16_pure": "bf16"}
"""Precision -> that of the products it consists of."""


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What an environment can do at most."""

    peaks: Mapping[str, float]
    """Precision -> the most FLOP/s that any of its matrix products reached."""
    bandwidths: Sequence[tuple[float, float]]
    """(bytes of the working set, the most bytes/s that any operation on it reached), by size."""
    passport: str
    """The runs that they are from."""
    calibration: Mapping[str, float] = field(default_factory=dict)
    """Probe of products or copies -> the fewest seconds that it took when these were made."""

    def peak(self, precision: str) -> float | None:
        """Return the FLOP/s that bound a case of this precision, or None where they were not measured."""
        return self.peaks.get(SAME_PEAK.get(precision, precision))

    def bandwidth(self, size: float) -> float | None:
        """Return the bytes/s that bound what works on `size` bytes, or None below the smallest set measured.

        That is the most of any working set that is no smaller than the next one below, as a cache may hold either.
        """
        below = [measured for measured, _ in self.bandwidths if measured <= size]
        return max(rate for measured, rate in self.bandwidths if measured >= below[-1]) if below else None

    def merged(self, other: "Ceilings") -> "Ceilings":
        """Return the higher of both in everything, as times the lower."""
        peaks, moved = dict(other.peaks), dict(other.bandwidths)
        peaks |= {name: max(rate, peaks.get(name, 0.0)) for name, rate in self.peaks.items()}
        moved |= {size: max(rate, moved.get(size, 0.0)) for size, rate in self.bandwidths}
        names = dict.fromkeys([*self.passport.split(", "), *other.passport.split(", ")])
        probes = {**other.calibration}
        probes |= {name: min(took, probes.get(name, took)) for name, took in self.calibration.items()}
        together = ", ".join(filter(None, names))
        return Ceilings(peaks=peaks, bandwidths=sorted(moved.items()), passport=together, calibration=probes)

    def changes(self, environment: Mapping[str, Any]) -> dict[str, float]:
        """Return probe -> times as long as it took then, of those that moved by more than two sessions differ."""
        found = strayed({"calibration": self.calibration}, environment)
        now = environment.get("calibration", {})
        return {
            probe.removesuffix("_seconds"): times
            for probe in found
            if (times := ratio(self.calibration[probe], now.get(probe))) > 0
        }


NONE = Ceilings(peaks={}, bandwidths=[], passport="")


def ceilings(found: Iterable[tuple[Workload, Variant, Mapping[str, float]]], passport: str) -> Ceilings:
    """Return the ceilings that cases with their figures amount to."""
    together = NONE
    for workload, variant, figures in found:
        peaks, moved = {}, []
        if workload.task == "ceilings/matmul" and (rate := figures.get("flop_per_second")):
            peaks = {SAME_PEAK.get(variant.precision, variant.precision): rate}
        if workload.task == "ceilings/memory" and (rate := figures.get("bytes_per_second")):
            moved = [(float(str(workload.settings.get("size", LARGE))), rate)]
        together = together.merged(Ceilings(peaks=peaks, bandwidths=moved, passport=passport))
    return together


def of_run(meta: Mapping[str, Any], place: str) -> Ceilings:
    """Return the ceilings that a run's own facts hold for one of its environments; empty ones where they hold none."""
    data = meta.get("ceilings", {}).get(place)
    return from_json(data) if data else NONE


def from_json(data: Mapping[str, Any]) -> Ceilings:
    """Return ceilings as `asdict` and JSON leave them."""
    bandwidths = [(float(size), float(rate)) for size, rate in data["bandwidths"]]
    known = data.get("calibration", {})  # older runs have none
    return Ceilings(peaks=data["peaks"], bandwidths=bandwidths, passport=data["passport"], calibration=known)


def calibration(environment: Mapping[str, Any]) -> dict[str, float]:
    """Return what an environment's probes of products and copies took, which bound a step as the ceilings do."""
    found = environment.get("calibration", {})
    return {probe: float(found[probe]) for probe in PROBES if ratio(found.get(probe), 1.0) > 0}


def told(changes: Mapping[str, float]) -> str:
    """Return in words how a machine differs from its passport."""
    parts = [f"{probe} takes {times:.2f} times as long" for probe, times in changes.items()]
    return f"this machine is not as its passport found it: {', '.join(parts)}"


def read(path: Path) -> dict[str, Any]:
    """Return the JSON report of a hardware run; raise UserError if that is not what is there."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no passport: {error}", HINT) from None
    return checked(report, path)


def checked(report: Any, path: Path) -> dict[str, Any]:
    """Return a report that is a passport's; raise UserError for any other."""
    known = {"format": int, "run": dict, "cases": list, "environments": dict}
    if not isinstance(report, dict) or not all(isinstance(report.get(name), kind) for name, kind in known.items()):
        raise UserError(f"{path} is no passport: not the report of one run", HINT)
    if report["format"] > REPORT_FORMAT:
        raise UserError(f"{path} has format {report['format']}, newer than {REPORT_FORMAT}", "update torch-tandem")
    if report["run"].get("measuring") is None:
        raise UserError(f"{path} is no passport: its run is not of `tandem hardware`", HINT)
    return report


def kept(folder: Path) -> dict[str, Ceilings]:
    """Return fingerprint -> ceilings, the highest of all passports in `folder` of that environment.

    One that cannot be read, as it is of a newer Tandem, counts for nothing: no passport, no MFU.
    """
    found: dict[str, Ceilings] = {}
    for path in sorted(folder.glob("*.json")):
        with suppress(*UNREADABLE):
            report = read(path)
            if report["run"]["measuring"] == MEASURING:
                for place, environment in report["environments"].items():
                    own = ceilings(of_place(report, place), report["run"]["id"])
                    own = replace(own, calibration=calibration(environment))
                    found[environment["fingerprint"]] = own.merged(found.get(environment["fingerprint"], NONE))
    return found


def of_place(report: Mapping[str, Any], place: str) -> list[tuple[Workload, Variant, Mapping[str, float]]]:
    """Return the ceilings of a passport that were measured in one of its environments, and rightly."""
    return [
        (
            workload_from(case["workload"]),
            construct(Variant, case["variant"]),
            {name: figure["center"] for name, figure in case["metrics"].items()},
        )
        for case in report["cases"]
        if not case["workload"]["model"] and case["outcome"] == "ok" and case["facts"].get("environment") == place
    ]


def keep(report: str, suite: str, fingerprint: str, folder: Path) -> None:
    """Write a passport where later runs on this machine find it; that of the same suite before it is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fingerprint}-{suite}.json"
    temporary = path.with_suffix(".new")
    temporary.write_text(report, encoding="utf-8")
    os.replace(temporary, path)
