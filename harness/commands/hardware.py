"""`tandem hardware`: what this machine can do at most, what Transformers reach of it, and how it compares."""

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from harness import load, passport
from harness.commands.options import Format, Output, Runs, run_path, say
from harness.commands.report import deliver, rendered
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.store import Run

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, rich_markup_mode=None)
TIMEOUT = 600.0
SUITES = "suites.definitions.hardware", "suites.definitions.hardware_quick"


@app.callback()
def hardware(
    context: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer ceilings, no models: under 3 minutes on 2 cores.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="KIND", help="auto, cpu, cuda, mps or xpu.")] = "auto",
    price: Annotated[
        Optional[float], typer.Option("--price-per-hour", help="What an hour of this machine costs, in any currency.")
    ] = None,
    runs: Runs = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Measure this machine's passport: ceilings, and the share of them that models reach."""
    if context.invoked_subcommand is None:
        measure(device, price, runs, quick=quick, quiet=quiet)


def measure(device: str, price: Optional[float], runs: Path, *, quick: bool, quiet: bool) -> None:
    """Measure a hardware suite, keep its passport for later runs, and print it."""
    from harness.commands.run import created, leave, measured
    from harness.conditions import Conditions
    from harness.fitness import device_processes
    from harness.run import described
    from harness.spec import Variant
    from harness.stopwatch import Stopwatch

    if price is not None:
        price_of(price)
    watch = Stopwatch()
    with watch("prepare"):
        folders = [Path.cwd()]
        one = Variant(name="fp32", device=device)
        kind = described(one, TIMEOUT, Conditions(folders=folders))["device"]
        if kind == "cuda" and (others := device_processes()):
            raise UserError(
                f"the GPU is in use by {', '.join(others)}", "a ceiling beside that is too low: stop it, or wait"
            )
        name = SUITES[quick] + ":accelerated" * (kind != "cpu")
        asked, _ = load.load(name, settings=[f"device={device}"])
        load.check_names(asked, [], ["current"])
        data = load.prepare_data(asked, load.cache() / "data", [])
        marks = {"measuring": passport.MEASURING, "price_per_hour": price}
        recorder = created(runs, asked, data, [], marks)
        conditions = Conditions(data=data, folders=folders)
    leave(measured(asked, recorder, conditions, watch, quiet=quiet))


def keep(run: "Run") -> None:
    """Keep the passport of a run for later ones on this machine."""
    from reports.report import document_of

    report = rendered(document_of(run), "json")
    for fingerprint in {facts["fingerprint"] for facts in run.environments.values()}:
        passport.keep(report, run.suite.name, fingerprint, load.cache() / "passports")
    say("kept as this machine's passport: later runs on it tell their share of the peak (MFU)")


@app.command()
def compare(
    passports: Annotated[
        list[str],
        typer.Argument(
            metavar="PASSPORT...",
            help="Reports in JSON, folders of them, or runs: paths, ids, `latest`; at least two in all.",
        ),
    ],
    prices: Annotated[
        Optional[list[str]],
        typer.Option(
            "--price-per-hour", metavar="PASSPORT=N", help="What an hour of a machine costs today; repeatable."
        ),
    ] = None,
    format: Format = "terminal",
    output: Output = None,
    runs: Runs = Path("runs"),
) -> None:
    """Compare machines by their passports: ceilings, models and price, as ratios to the first."""
    from reports.hardware import document_of as comparison

    named = [one for name in passports for one in catalogue(name) or [name]]
    if len(named) < 2:
        raise UserError("one passport alone compares with nothing", "give two or more")
    costs = dict(told_price(text, named) for text in prices or [])
    try:
        found = comparison([opened(name, costs.get(name), runs) for name in named])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"a passport lacks what it should have: {type(error).__name__}, {error}", passport.HINT
        ) from error
    deliver(found, format, output)


def catalogue(name: str) -> list[str]:
    """Return the passports in a folder of them, or the one that a name stands for."""
    is_run = (Path(name) / "run.json").exists()
    return [] if is_run else sorted(map(str, Path(name).glob("*.json")))


def told_price(text: str, named: Collection[str]) -> tuple[str, float]:
    """Return the passport that a price is told of, which is named as given or by its file's name, and the price."""
    name, equals, value = text.rpartition("=")
    if not equals:
        raise UserError(f"--price-per-hour {text!r} is not of the form PASSPORT=N", "write the passport's name, too")
    found = next((one for one in named if name in (one, Path(one).name, Path(one).stem)), None)
    if found is None:
        raise unknown("passport", name, [Path(one).stem for one in named])
    try:
        return found, price_of(float(value))
    except ValueError:
        raise UserError(f"--price-per-hour {text!r}: {value!r} is no number", "give what an hour costs") from None


def price_of(price: float) -> float:
    """Return a price; raise UserError for one that no hour has."""
    if not 0 < price < math.inf:
        raise UserError(f"--price-per-hour is {price:g}", "give what an hour costs, above 0")
    return price


def opened(name: str, price: Optional[float], runs: Path) -> dict[str, Any]:
    """Return the report of a passport, a file or a run, with a price told now in place of its own."""
    from harness.store import open_run
    from reports.report import document_of

    if name.endswith(".json"):
        report = passport.read(Path(name))
    else:
        path = run_path(name, runs)
        report = passport.checked(json.loads(rendered(document_of(open_run(path)), "json")), path)
    return report if price is None else {**report, "run": {**report["run"], "price_per_hour": price}}
