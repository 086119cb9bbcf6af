"""The HTML report in a real browser: it draws, sorts, filters and prints, and asks for nothing.

Screenshots of what the tests saw are in `screenshots/`, which git ignores.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from made_run import hostile, made_run, made_suite

from harness.names import ROOT
from reports.document import Document
from reports.formats import html
from reports.report import document_of
from reports.runs import document_of_runs

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
SHOTS = ROOT / "screenshots"
LARGEST = 6_000_000  # bytes of a report on 200 cases
SOONEST = 2.0  # seconds until one can be read and used
PATIENCE = 30_000  # milliseconds for a chart; a busy machine draws slowly
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install -e '.[dev]'")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH: apt install chromium"),
    pytest.mark.filterwarnings("default::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # as root Chromium has no sandbox
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=BROWSER, args=arguments)
        yield found
        found.close()


@dataclass
class Visit:
    """A page that was opened, with what it asked for and complained of."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Open a document; at the end, hold against it whatever it asked for or complained of."""
    visits, contexts = [], []

    def open_page(document: Document | str, *, part: str = "", **options: Any) -> Visit:
        path = tmp_path / f"report-{len(visits)}.html"
        path.write_text(document if isinstance(document, str) else html.render(document), encoding="utf-8")
        context = browser.new_context(**{"viewport": WIDE, "offline": True, **options})
        contexts.append(context)
        found = Visit(context.new_page())
        found.page.on("console", lambda said: found.complaints.append(said.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.goto(f"{path.as_uri()}{part}")
        visits.append((found, path))
        return found

    yield open_page
    for found, path in visits:
        assert [url.split("#")[0] for url in found.requests] == [path.as_uri()]
        assert not found.complaints
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return document_of(made_run(tmp_path_factory.mktemp("made"), made_suite((32, 64, 128))))


@pytest.fixture(scope="module")
def report(document: Document) -> str:
    return html.render(document)


@pytest.fixture(scope="module")
def page_of_200_cases(tmp_path_factory: pytest.TempPathFactory) -> str:
    suite = made_suite([32 * number for number in range(1, 41)])
    assert len(suite.cases) == 200
    run = made_run(tmp_path_factory.mktemp("large"), suite)
    operators = [{"name": f"aten::operator_{n}", "seconds": 0.01 / (n + 1), "calls": n} for n in range(60)]
    told = [item | {"facts": item["facts"] | {"operators": operators}} for item in run.outcomes]
    return html.render(document_of(replace(run, outcomes=told)))


def shoot(page: Any, name: str, *, full: bool = False) -> None:
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=full)


def drawn(page: Any) -> int:
    """Return how many charts Vega has drawn, after a walk through the page."""
    for figure in page.locator("figure[data-chart]").all():
        figure.scroll_into_view_if_needed()
        playwright.expect(figure).to_have_attribute("data-chart", "drawn", timeout=PATIENCE)
    return int(page.locator("figure[data-chart=drawn] .picture svg.marks").count())


def column(page: Any, number: int) -> list[str]:
    """Return the texts of a column of the table of all cases, the shown rows."""
    cells = page.locator(f"#overview-all-cases tbody tr:not([hidden]) > :nth-child({number})")
    return [text.strip() for text in cells.all_text_contents()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("wide", WIDE), ("narrow", NARROW)])
def test_the_first_screen_holds_question_answer_ladder_and_table(
    visit: Any, report: str, name: str, size: dict[str, int], scheme: str
) -> None:
    page = visit(report, viewport=size, color_scheme=scheme).page
    page.wait_for_selector("#overview figure[data-chart=drawn]")
    shoot(page, f"report-{name}-{scheme}")
    tops = [page.locator(part).first.bounding_box()["y"] for part in ("h1", ".lead", "#overview figure")]
    assert tops == sorted(tops)
    assert page.locator(".lead").inner_text().startswith("Over all workloads: +fused is 1.6")
    shown = page.locator("#overview-all-cases tbody tr").first.bounding_box()
    assert shown["y"] < size["height"] or name == "narrow"
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(245, 246, 249)"
    assert light == (scheme == "light")


def test_every_chart_is_drawn_and_has_words_and_a_table(visit: Any, report: str) -> None:
    page = visit(report).page
    count = page.locator("figure[data-chart]").count()
    assert count > 10
    assert drawn(page) == count
    assert page.locator("figure .picture[role=img][aria-label]").count() == count
    page.locator("figure details").evaluate_all("all => all.forEach((each) => { each.open = true; })")
    rows = page.locator("figure details table").evaluate_all("all => all.map((each) => each.tBodies[0].rows.length)")
    assert len(rows) == count
    assert min(rows) > 0
    shoot(page, "report-whole", full=True)


def test_a_column_sorts_both_ways_and_back(visit: Any, report: str) -> None:
    page = visit(report).page
    heading = page.locator("#overview-all-cases thead th", has_text="step time")
    number = heading.evaluate("cell => cell.cellIndex") + 1
    before = column(page, number)
    heading.get_by_role("button").focus()
    states = []
    for _ in range(3):
        page.keyboard.press("Enter")
        seconds = [float(text.split()[0]) for text in column(page, number) if text]
        states.append((heading.get_attribute("aria-sort"), seconds))
    assert states[0] == ("ascending", sorted(states[0][1]))
    assert states[1] == ("descending", sorted(states[0][1], reverse=True))
    assert states[2][0] is None
    assert column(page, number) == before
    assert "" in before  # a case without figures stands last, whichever way


def test_a_case_without_figures_sorts_last_either_way(visit: Any, report: str) -> None:
    page = visit(report).page
    button = page.locator("#overview-all-cases thead th", has_text="step time").get_by_role("button")
    for _ in range(2):
        button.click()
        assert column(page, 3)[-1] == "unavailable"


def test_the_filter_keeps_the_rows_with_all_words_and_counts_them(visit: Any, report: str) -> None:
    page = visit(report).page
    field = page.get_by_label("Filter rows").first
    count = page.locator("#overview-all-cases output")
    assert count.inner_text() == "15 of 15 rows"
    field.fill("L64 better")
    assert count.inner_text() == "4 of 15 rows"
    assert set(column(page, 1)) == {"gpt-tiny-b4-l64"}
    shoot(page, "report-filtered")
    field.fill("no such case")
    assert (count.inner_text(), column(page, 1)) == ("0 of 15 rows", [])
    field.fill("")
    assert len(column(page, 1)) == 15


def test_links_lead_to_sections_and_cases(visit: Any, document: Document, report: str) -> None:
    case = document.results[0].cases[-1].case
    page = visit(report, part=f"#{case}").page
    row = page.locator("tr:target")
    assert row.get_attribute("id") == case
    assert 0 <= row.bounding_box()["y"] < WIDE["height"]
    targets = page.locator("a[href^='#']").evaluate_all("all => all.map((each) => each.getAttribute('href').slice(1))")
    assert all(page.evaluate("ids => ids.map((id) => document.getElementById(id) !== null)", targets))
    ids = page.locator("[id]").evaluate_all("all => all.map((each) => each.id)")
    assert len(ids) == len(set(ids))
    page.locator("nav a", has_text="Memory").click()
    assert page.locator("section:target h2").inner_text().startswith("Memory")


def test_the_keyboard_reaches_the_answer_first(visit: Any, report: str) -> None:
    page = visit(report).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    shown = page.evaluate("document.activeElement.getBoundingClientRect().left")
    assert shown >= 0
    page.keyboard.press("Enter")
    assert page.url.endswith("#overview")


def test_a_screen_reader_hears_names_headings_and_verdicts(visit: Any, report: str) -> None:
    page = visit(report).page
    tree = page.locator("body").aria_snapshot()
    for heard in (
        'heading "What does each step to 2.x gain?" [level=1]',
        'navigation "Sections"',
        'searchbox "Filter rows"',
        'img "What each rung changes',
        'button "step time',
        "(better)",
    ):
        assert heard in tree
    unnamed = "all => all.filter((each) => !each.textContent.trim() && !each.getAttribute('aria-label')).length"
    assert page.locator("a, button").evaluate_all(unnamed) == 0


def test_the_button_turns_light_into_dark(visit: Any, report: str) -> None:
    page = visit(report, color_scheme="light").page
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.get_by_role("button", name="Light").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == before


def test_hostile_names_stay_text(visit: Any, tmp_path: Path) -> None:
    run = hostile(made_run(tmp_path / "run"))
    found = visit(document_of(run), color_scheme="dark")
    count = found.page.locator("figure[data-chart]").count()
    assert drawn(found.page) == count
    assert "<script>alert(1)</script>" in found.page.locator("h1").inner_text()
    assert found.page.locator("script:not([type='application/json'])").count() == 1
    shoot(found.page, "report-hostile")


def test_it_prints_its_charts_and_whole_tables(visit: Any, report: str) -> None:
    page = visit(report, color_scheme="dark").page
    page.wait_for_selector("#overview figure[data-chart=drawn]")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("nav").is_hidden()
    assert page.get_by_label("Filter rows").first.is_hidden()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    assert page.locator("figure .picture svg").count() == page.locator("figure[data-chart]").count()
    SHOTS.mkdir(exist_ok=True)
    pdf = page.pdf(path=SHOTS / "report.pdf", format="A4", print_background=True)
    assert pdf.count(b"/Type /Page\n") < 30


def test_200_cases_open_at_once_and_stay_small(visit: Any, page_of_200_cases: str) -> None:
    assert len(page_of_200_cases.encode()) < LARGEST
    empty, large = (visit(page, color_scheme="dark").page for page in ("<p>nothing</p>", page_of_200_cases))
    ready = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
    base, seconds = (page.evaluate(ready) for page in (empty, large))
    assert seconds - base < SOONEST
    field = large.get_by_label("Filter rows").first
    field.fill("l1280 bf16")
    assert large.locator("#overview-all-cases output").inner_text() == "1 of 200 rows"
    size = len(page_of_200_cases.encode()) / 1e6
    print(f"200 cases: {size:.1f} MB, loaded in {seconds:.2f} s, an empty page in {base:.2f} s")
    shoot(large, "report-200-cases")


def test_charts_without_a_picture_are_drawn_when_there_is_time(
    visit: Any, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, value in (("DRAWN", 0), ("FOLDED", 2), ("OPEN", 1)):
        monkeypatch.setattr(html, limit, value)
    page = visit(document).page
    playwright.expect(page.locator("figure[data-chart=drawn]")).to_have_count(
        page.locator("figure").count(), timeout=PATIENCE
    )
    assert page.locator("details.more figure").count() > 5
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    widths = page.locator("figure .picture svg").evaluate_all(
        "all => all.map((each) => each.getBoundingClientRect().width)"
    )
    assert min(widths) > 300


def test_several_runs_are_side_by_side(visit: Any, tmp_path: Path) -> None:
    first, second = (
        made_run(tmp_path / name, slower=slower, seed=seed, name=name)
        for seed, (name, slower) in enumerate((("monday", 1.0), ("tuesday", 1.2)))
    )
    place = {**second.environments["current"], "fingerprint": "f1", "cpu": "Other", "line": "Other CPU"}
    page = visit(document_of_runs([first, replace(second, environments={"current": place})])).page
    page.wait_for_selector("#overview figure[data-chart=drawn]")
    assert "machines or builds compared, not code" in page.locator(".lead").inner_text()
    assert page.locator("#overview figure").inner_text().count("run 2") > 0
    shoot(page, "report-runs")
