import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from solvus.report import group_records, write_report
from solvus.report.figures import group_figures
from solvus.report.style import _COLOURS, colour_class, symbols
from solvus.report.tables import measurement_table


@pytest.fixture(scope="module")
def page(records, tmp_path_factory):
    return write_report(records, tmp_path_factory.mktemp("report") / "new" / "folder")


def shown(browser, page, folder):
    """Return the document as a headless browser has it after the scripts ran."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    )
    flags += " --disable-component-update --disable-sync --virtual-time-budget=10000 --dump-dom"
    command = [browser, *flags.split(), f"--user-data-dir={folder}", page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    shutil.rmtree(folder, ignore_errors=True)
    return run.stdout


def test_the_browser_draws_every_plot_without_an_error(page, chromium, tmp_path):
    dom = shown(chromium, page, tmp_path / "profile")
    assert re.search(r'<html[^>]*data-errors="0"', dom)
    assert re.search(r'<html[^>]*data-rendered="4"', dom)
    for name in ("plot-speed", "plot-work", "plot-growth", "plot-regret"):
        plot = dom[dom.index(f'id="{name}"') :].split("</figure>")[0]
        assert plot.count('class="trace scatter') >= 3, name
    assert dom.count('aria-pressed="true"') == 4  # a chip for each method of the first problem
    buttons = re.findall(r'data-title="([^"]*)"', dom)
    assert "Download plot" in buttons
    assert not [title for title in buttons if "Share" in title or "Cloud" in title]  # nothing leaves the page


def test_a_broken_script_would_be_noticed(page, chromium, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace("open(0);", "nowhere(0);"))
    dom = shown(chromium, broken, tmp_path / "profile")
    assert re.search(r'<html[^>]*data-errors="1"', dom)
    assert "data-rendered" not in dom.split(">", 2)[1]


def test_the_page_needs_nothing_from_outside(page):
    class Links(HTMLParser):
        found: ClassVar[list[str]] = []

        def handle_starttag(self, tag, attrs):
            self.found += [value for name, value in attrs if name in ("src", "href")]

    text = page.read_text()
    links = Links()
    links.feed(re.sub(r"<script.*?</script>", "", text, flags=re.S))
    assert all(link.startswith("#") for link in links.found)
    assert "default-src 'none'" in text


def test_the_same_records_give_the_same_page(records, page, tmp_path):
    assert write_report(records, tmp_path).read_bytes() == page.read_bytes()


def test_all_records_travel_with_the_page(records, page):
    embedded = re.search(r'id="records">(.*?)</script>', page.read_text(), flags=re.S)
    assert json.loads(embedded[1]) == [r.model_dump(mode="json") for r in records]


def test_no_records_no_page(tmp_path):
    with pytest.raises(ValueError, match="there is no record to draw: run a benchmark with --out"):
        write_report([], tmp_path)


def test_failed_runs_stay_in_plots_and_tables(records):
    group = group_records(records)[0]
    speed = group_figures(group)["views"][0]["speed"]["traces"]
    (failed,) = [t for t in speed if t.get("failed")]
    assert failed["key"] == "solvus/IC(0)-CG"
    assert "<b>failed</b>: MAX_STEPS: &lt;b&gt;gave" in failed["text"][0]
    table = measurement_table(group)
    assert table.count('<tr class="bad">') == 2
    assert "MAX_STEPS: &lt;b&gt;gave&lt;/b&gt; up" in table
    assert table.count('<tr class="best">') == 4  # two sizes, two tolerances


def test_curves_are_sorted_and_the_front_holds_the_best(records):
    view = group_figures(group_records(records)[0])["views"][0]
    assert view["label"].startswith("size 63")
    curve = next(t for t in view["work"]["seconds"]["traces"] if t["key"] == "pyamg/RS-CG")
    assert curve["x"] == [1e-8, 1e-4]
    (front,) = [t for t in view["speed"]["traces"] if t.get("front")]
    assert front["x"] == sorted(front["x"])
    assert front["y"] == sorted(front["y"], reverse=True)


def test_sizes_of_one_problem_make_one_curve_where_there_are_errors(records):
    darcy = next(g for g in group_records(records) if g.problem == "darcy")
    (view,) = group_figures(darcy)["views"]
    curve = next(t for t in view["speed"]["traces"] if t["key"] == "dolfinx/P1")
    assert len(curve["x"]) == 3
    learned = next(t for t in view["speed"]["traces"] if t["key"] == "solvus/FNO")
    assert learned["line"]["dash"] == "dash"


def test_regret_is_drawn_where_records_hold_it(record):
    curve = [0.0, 4.0, 5.0]
    learner = record("chebcb", "solvus", 1.0, kind="learned", extra={"regret": curve})
    (group,) = group_records([learner, record("fixed-1", "solvus", 2.0)])
    (view,) = group_figures(group)["views"]
    (trace,) = view["regret"]["traces"]
    assert trace["key"] == "solvus/chebcb"
    assert trace["x"] == [0.0, 50.0, 100.0]
    assert trace["y"] == curve
    assert "<b>chebcb</b>" in trace["text"][0]


def test_no_tolerance_is_named_where_nothing_is_solved_to_one(records):
    darcy = next(g for g in group_records(records) if g.problem == "darcy")
    assert ">tolerance<" not in measurement_table(darcy)
    assert ">tolerance<" in measurement_table(group_records(records)[0])


def test_the_guide_is_proportional_to_the_unknowns(records):
    growth = group_figures(group_records(records)[0])["growth"]
    (guide,) = [t for t in growth["traces"] if t.get("guide")]
    assert guide["y"][1] / guide["y"][0] == pytest.approx(guide["x"][1] / guide["x"][0])


def test_symbols_differ_within_a_package_and_unknown_packages_have_a_colour(record):
    (group,) = group_records([record(f"m{i}", "solvus", 1.0) for i in range(20)])
    assert len(set(symbols(group).values())) == 20
    assert colour_class("somebody's") == "p-other"


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("package", _COLOURS)
def test_colours_stand_out_from_both_pages(package):
    light, dark = (_luminance(c) for c in _COLOURS[package])
    assert (1.0 + 0.05) / (light + 0.05) > 3.5
    assert (dark + 0.05) / (_luminance("#171e25") + 0.05) > 3.5
