"""report.html in headless Chromium: sections switch, figures are drawn lazily, the 3D display turns."""

import json
import re
import time

import headless
import numpy as np
import pytest
import toy_showers

from caloforge.metrics.definitions import features
from caloforge.metrics.resampling import Metric
from caloforge.validation import validate_files

pytestmark = pytest.mark.skipif(headless.PROGRAM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    truth = toy_showers.write(folder / "truth.h5", toy_showers.batch(450, 1))
    good = toy_showers.write(folder / "good.h5", toy_showers.batch(450, 2))
    bad = toy_showers.batch(450, 3)
    bad.showers *= np.float32(1.2)
    # a name that would break out of the document if it were not escaped
    odd = toy_showers.write(folder / "<b>bad</script>{{data}}.h5".replace("/", "∕"), bad)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "frechet_physics_distance", lambda *_, **__: Metric(0.01, 0.01, 0.01))
        options = {"classifier": False, "pdf": False, "workers": 1}
        return validate_files(truth, [good, odd], folder / "report", **options).report


@pytest.fixture(scope="module")
def page(report):
    browser = headless.Browser()
    try:
        browser.resize(1280, 900)
        browser.open(report.as_uri())
        yield browser
        assert browser.errors == []
    finally:
        browser.close()


def visible(page):
    return page.run("[...document.querySelectorAll('main > section')].filter(s => !s.hidden).map(s => s.id)")


def test_the_verdict_is_what_opens(page):
    assert visible(page) == ["section-verdict"]
    text = page.run("document.querySelector('main').innerText")
    assert "good: undecided with the thresholds" in text and "NOT within" in text
    # one shower of the truth beside one of each generator, with axes and a colour scale; no other figure yet
    page.wait("document.querySelectorAll('.first svg image').length === 3")
    assert page.run("document.querySelectorAll('svg[role=img]').length") == 3
    labels = page.run("document.querySelector('.first svg').textContent")
    assert "layer" in labels and "x [mm]" in labels and "MeV" in labels


def test_names_of_files_are_text(page):
    assert not page.run("[...document.querySelectorAll('b')].some(b => b.textContent.startsWith('bad'))")
    assert "<b>bad" in page.run("document.querySelector('h1').textContent")


def test_every_section_opens_and_draws_what_is_seen(page):
    for link in page.run("[...document.querySelectorAll('nav a')].map(a => a.hash)"):
        page.run(f"document.querySelector('nav a[href=\"{link}\"]').click()")
        page.wait(f"!document.getElementById('section-{link[1:]}').hidden")
        assert visible(page) == [f"section-{link[1:]}"]
        assert page.run("document.querySelector('nav a[aria-current]').hash") == link
    page.run("location.hash = '#lateral'")
    page.wait("document.querySelectorAll('#section-lateral svg[role=img]').length > 0")
    drawn = page.run("document.querySelectorAll('#section-lateral svg[role=img]').length")
    waiting = page.run("document.querySelectorAll('#section-lateral figure').length")
    assert drawn < waiting
    page.run("scrollTo(0, document.body.scrollHeight)")
    page.wait(f"document.querySelectorAll('#section-lateral svg[role=img]').length > {drawn}")


def test_a_figure_shows_what_the_file_says(page, report):
    document = json.loads((report.parent / "figures.json").read_text())
    figure = next(f for f in document["figures"] if f["observable"] == "response" and f["bin"] == "inclusive")
    page.run("location.hash = '#response'")
    page.wait("document.querySelectorAll('#o-response svg').length > 0")
    # the outline of the first generator: two points a step, low energies left
    path = page.run(
        "[...document.querySelectorAll('#o-response svg')[0].querySelectorAll('path')]"
        ".find(p => p.getAttribute('stroke') === 'var(--g0)' && p.getAttribute('fill') === 'none')"
        ".getAttribute('d')"
    )
    points = np.array([[float(v) for v in pair.split()] for pair in re.split("[ML]", path) if pair])
    heights = points[::2, 1]
    values = np.array(figure["generated"][0]["value"])
    expected = np.interp(
        values, [values.min(), values.max()], [heights[values.argmin()], heights[values.argmax()]]
    )
    np.testing.assert_allclose(heights, expected, atol=0.2)


def test_details_of_a_row_open_and_close(page):
    page.run("location.hash = '#verdict'")
    page.wait("!document.getElementById('section-verdict').hidden")
    page.run("document.querySelector('tr.row').click()")
    assert page.run("document.querySelectorAll('tr.more tbody tr').length") > 3
    page.run("document.querySelector('tr.row').click()")
    assert page.run("document.querySelectorAll('tr.more').length") == 0
    page.run("document.getElementById('only-failures').click()")
    shown = page.run(
        "[...document.querySelectorAll('tr.row')].filter(r => !r.hidden).map(r => r.dataset.status)"
    )
    assert shown and set(shown) == {"fail"}
    page.run("document.getElementById('only-failures').click()")


def test_the_display_turns_by_itself_and_by_hand(page):
    page.run("location.hash = '#showers'")
    page.wait("document.querySelectorAll('.displays canvas').length === 3")
    turn = "document.querySelector('.displays canvas').dataset.turn"
    first = page.wait(turn)
    page.wait(f"{turn} !== '{first}'")
    pixels = (
        "(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter(v => v).length)"
        "(document.querySelectorAll('.displays canvas')[1])"
    )
    assert page.run(pixels) > 1000
    page.run("[...document.querySelectorAll('.display-controls button')].at(-1).click()")
    still = page.run(turn)
    time.sleep(0.2)
    assert page.run(turn) == still
    page.run(
        "document.querySelector('.displays canvas')"
        ".dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}))"
    )
    assert float(page.run(turn)) == pytest.approx(float(still) - 0.1, abs=2e-3)


def test_a_phone_needs_no_sideways_scrolling_and_dark_mode_follows_the_system(page):
    page.resize(390, 800, dark=True)
    try:
        for section in ("verdict", "response", "showers", "provenance"):
            page.run(f"location.hash = '#{section}'")
            page.wait(f"!document.getElementById('section-{section}').hidden")
            assert page.run("document.documentElement.scrollWidth") <= 390
        assert page.run("document.documentElement.dataset.theme") == "dark"
        dark = page.run("getComputedStyle(document.body).backgroundColor")
        page.run("document.getElementById('theme').click()")
        assert page.run("getComputedStyle(document.body).backgroundColor") != dark
    finally:
        page.resize(1280, 900)


def test_a_phone_shows_every_column_of_the_verdict(page):
    page.run("location.hash = '#verdict'")
    page.resize(390, 800)
    try:
        page.run("document.querySelector('tr.row').click()")
        for row in ("tr.row", "tr.more tbody tr"):
            cells = page.run(
                f"[...document.querySelector('{row}').cells].map(c => [c.dataset.label || '', "
                "c.getBoundingClientRect().width, c.getBoundingClientRect().right])"
            )
            shown = [label for label, width, right in cells if width > 0 and right <= 390]
            assert len(shown) == len(cells)
            assert {"where", "metric", "value", "floor", "threshold", "beyond"} <= set(shown)
        page.run("document.querySelector('tr.row').click()")
    finally:
        page.resize(1280, 900)


def test_nothing_moves_for_those_who_ask_for_it(page):
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    page.send("Emulation.setEmulatedMedia", features=[feature])
    page.open(page.run("location.href.split('#')[0]"))
    page.run("location.hash = '#showers'")
    page.wait("document.querySelectorAll('.displays canvas').length === 3")
    still = page.wait("document.querySelector('.displays canvas').dataset.turn")
    time.sleep(0.2)
    assert page.run("document.querySelector('.displays canvas').dataset.turn") == still
    page.resize(1280, 900)


def test_it_prints_every_section(page):
    pdf = page.pdf()
    # several figures a page
    assert len(re.findall(rb"/Type /Page[\n /]", pdf)) < 30
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page/") + pdf.count(b"/Type /Page ") > 5
    # everything was drawn for the paper
    assert page.run("[...document.querySelectorAll('figure')].every(f => f.querySelector('svg, canvas'))")


def test_a_report_of_500_figures_is_there_at_once(report, tmp_path):
    text = report.read_text()
    start = text.index('id="data">') + len('id="data">')
    end = text.index("</script>", start)
    data = json.loads(text[start:end].replace("<\\/", "</"))
    many = data["figures"]
    assert many
    data["figures"] = (many * (500 // len(many) + 1))[:500]
    large = tmp_path / "large.html"
    large.write_text(text[:start] + json.dumps(data).replace("</", "<\\/") + text[end:])
    browser = headless.Browser()
    try:
        browser.resize(1280, 900)
        browser.open(large.as_uri())
        timing = browser.run("performance.timing.domComplete - performance.timing.navigationStart")
        assert timing < 2000
        assert browser.errors == []
    finally:
        browser.close()
