"""The report in a real Chromium: it shows its arrays, needs no network, and can be scrubbed."""

import os
import re

import numpy as np
import pytest

from tests.testing import client, program

client("equinox")
client("memax")
client("matplotlib")

from popgym_arcade.introspection import episode, figures, measures, report  # noqa: E402, after the checks

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]
PATIENCE = 60_000  # milliseconds
LENGTH, SIZE, SIDE = 20, 32, 16


def an_episode(policy=False):
    """A made-up Trajectory whose frames are of one color each."""
    rng = np.random.default_rng(0)
    frames = np.broadcast_to(
        rng.integers(0, 256, (LENGTH, 1, 1, 3)), (LENGTH, SIZE, SIZE, 3)
    ).astype(np.uint8)
    values, numbers = rng.normal(size=(LENGTH, 5)).astype(np.float32), np.arange(LENGTH)
    output = (values, values[:, 0]) if policy else values
    return episode.Trajectory(
        frames, numbers - 1, numbers == 0, values.argmax(1), values[:, 0] / 10, output, False, True
    )


def some_maps():
    """Maps in which frame 3, at row 2 and column 5, is the most salient for later decisions."""
    pooled = np.tril(np.random.default_rng(1).random((LENGTH, LENGTH)) * 0.1)[
        ..., None, None
    ] * np.ones((SIDE, SIDE), np.float32)
    pooled[4:, 3] /= 10
    pooled[4:, 3, 2, 5] = 100
    return pooled.astype(np.float32)


def written(path, policy=False, decisions=None):
    """Write a report of the episode and the maps: its path."""
    decisions = np.arange(LENGTH) if decisions is None else decisions
    figure = figures.draw_recall(measures.recall_density([[[1, 2, 3]]]))
    drawn = [("A <figure>", "What it shows & means.", figure)]
    report.write_report(
        path,
        "Navigator <Easy>",
        [("memory", "lru & more")],
        an_episode(policy),
        decisions,
        some_maps()[decisions],
        drawn,
    )
    return path


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    path = program(*CHROMIUM)
    try:
        from playwright import sync_api
    except ModuleNotFoundError:
        (pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip)(
            "this test needs playwright"
        )
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a report; the page must log no message and request no other URL."""
    complaints, asked, contexts = [], [], []

    def opened(width=1280, height=900, **options):
        path = written(tmp_path / "report.html", **options)
        contexts.append(
            browser.new_context(viewport={"width": width, "height": height}, offline=True)
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)


def wait_for(page, decision, frame):
    """Wait until the page shows a decision and, next to it, a frame."""
    page.wait_for_selector(f'body[data-shown="{decision}/{frame}"]')


def pixels(page, selector):
    """The pixels of a canvas or an image of the page: uint8[height, width, 4]."""
    height, width, values = page.evaluate(
        """(selector) => {
            const source = document.querySelector(selector);
            const canvas = document.createElement("canvas");
            canvas.width = source.naturalWidth || source.width;
            canvas.height = source.naturalHeight || source.height;
            const context = canvas.getContext("2d", {willReadFrequently: true});
            context.drawImage(source, 0, 0);
            const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.height, canvas.width, Array.from(data)];
        }""",
        selector,
    )
    return np.array(values, np.uint8).reshape(height, width, 4)


def test_the_last_decision_and_its_most_salient_frame_are_shown_first(opened):
    page, played = opened(), an_episode()
    wait_for(page, LENGTH - 1, 3)
    np.testing.assert_array_equal(pixels(page, "#now")[..., :3], played.frames[-1])
    np.testing.assert_array_equal(pixels(page, "#then")[..., :3], played.frames[3])
    assert page.inner_text("h1") == page.title() == "Navigator <Easy>"
    assert "lru & more" in page.inner_text("dl")
    assert page.inner_text("#then-title") == "Frame 3, 16 steps ago"
    action = episode.ACTION_NAMES[played.actions[-1]]
    assert page.inner_text("#where") == f"decision 19 of 19: {action}"
    shares = some_maps()[-1].sum((1, 2)) / some_maps()[-1].sum()
    found = re.search(r": (\d+) % of the gradient", page.inner_text("#then-note"))[1]
    assert int(found) == round(100 * shares[3])


def test_the_saliency_lies_where_the_maps_have_it(opened):
    page = opened()
    wait_for(page, LENGTH - 1, 3)
    strength = pixels(page, "#then-map")[..., 3].astype(int)
    assert strength.shape == (SIDE, SIDE)
    assert np.unravel_index(strength.argmax(), strength.shape) == (2, 5)
    assert strength[2, 5] > 200 and np.delete(strength.ravel(), 2 * SIDE + 5).max() < 20
    assert pixels(page, "#now-map")[..., 3].max() < 20  # on the common scale, the others are faint
    page.select_option("#scale", "own")
    assert pixels(page, "#now-map")[..., 3].min() > 200
    page.uncheck("#show")
    assert not pixels(page, "#then-map").any() and not pixels(page, "#now-map").any()


def test_the_slider_keys_and_buttons_go_through_the_episode(opened):
    page, played = opened(), an_episode()
    wait_for(page, LENGTH - 1, 3)
    page.keyboard.press("ArrowLeft")
    wait_for(page, 18, 3)
    page.click("#back")
    wait_for(page, 17, 3)
    page.click("#on")
    wait_for(page, 18, 3)
    page.evaluate("at('slider').value = 10; at('slider').oninput()")
    wait_for(page, 10, 3)
    np.testing.assert_array_equal(pixels(page, "#now")[..., :3], played.frames[10])
    page.keyboard.press("Shift+ArrowRight")
    wait_for(page, 10, 4)
    page.click("button[aria-label='frame 7']")
    wait_for(page, 10, 7)
    np.testing.assert_array_equal(pixels(page, "#then")[..., :3], played.frames[7])
    page.evaluate("at('slider').value = 0; at('slider').oninput()")
    wait_for(page, 0, 0)
    assert page.inner_text("#then-title") == "No earlier frame"
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    wait_for(page, 0, 0)


def test_the_strip_has_all_frames_and_dims_what_is_to_come(opened):
    page = opened()
    wait_for(page, LENGTH - 1, 3)
    assert page.locator(".cell").count() == LENGTH
    page.evaluate("at('slider').value = 5; at('slider').oninput()")
    wait_for(page, 5, 3)
    assert page.locator(".cell.later").count() == LENGTH - 6
    assert page.locator(".cell.now").get_attribute("aria-label") == "frame 5"
    assert page.locator(".cell.looked").get_attribute("aria-label") == "frame 3"
    # frame 8 is still to come, so the selection goes back to the most salient frame
    page.click("button[aria-label='frame 8']")
    wait_for(page, 5, 3)


def test_the_bars_are_the_values_or_the_policys_probabilities(opened):
    page, played = opened(), an_episode()
    wait_for(page, LENGTH - 1, 3)
    numbers = [text.replace("−", "-") for text in page.locator("#bars .number").all_inner_texts()]
    assert numbers == [f"{value:.3f}" for value in played.values[-1]]
    assert (
        page.inner_text("#bars .number.chosen").replace("−", "-")
        == f"{played.values[-1].max():.3f}"
    )
    page = opened(policy=True)
    wait_for(page, LENGTH - 1, 3)
    assert page.inner_text("#values-title") == "Action probabilities"
    shares = [text for text in page.locator("#bars .number").all_inner_texts()]
    expected = 100 * an_episode(policy=True).probabilities[-1]
    np.testing.assert_allclose(
        [float(text.removesuffix(" %")) for text in shares], expected, atol=0.51
    )


def test_playing_runs_to_the_end_and_stops(opened):
    page = opened(decisions=np.array([0, 6, 12, 19]))
    wait_for(page, 19, 3)
    page.evaluate(
        """() => {
            window.seen = [];
            const note = () => seen.push(document.body.dataset.shown);
            new MutationObserver(note).observe(document.body, {attributes: true});
        }"""
    )
    page.click("#play")
    assert page.inner_text("#play") == "Pause"
    page.wait_for_selector("#play:text('Play')")
    assert page.evaluate("seen") == ["0/0", "6/3", "12/3", "19/3"]


@pytest.mark.parametrize("width, height", [(390, 844), (1280, 900)])
def test_nothing_sticks_out(opened, width, height):
    page = opened(width, height)
    wait_for(page, LENGTH - 1, 3)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(
        "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    )
    assert page.inner_text("figcaption") == "What it shows & means."
    assert page.inner_text("figure h3") == "A <figure>"


def test_the_maps_get_coarser_before_a_report_gets_too_large():
    assert report.map_side(range(20), 128) == 64
    assert report.map_side(range(200), 128) == 32
    assert report.map_side(range(0, 3000, 15), 128) == 8
    assert report.map_side(range(20), 16) == 16


def test_the_brightness_of_a_map_comes_back_from_its_picture(tmp_path):
    page = written(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<!--" not in page  # every placeholder is filled in
    assert "http:" not in page and "https:" not in page
    assert (tmp_path / "report.html").stat().st_size < 400_000
