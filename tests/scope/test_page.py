"""The page of a trace: what it says is in the tensors, and a browser shows it offline."""

import base64
import json
import re
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
import toys
from browser import browse
from typed import typed

from tiny_audio.model.errors import ConfigError
from tiny_audio.presets import build, load
from tiny_audio.scope.trace.page import MOST_ROWS, quantised, render
from tiny_audio.scope.trace.path import trace

CLIP = toys.samples()[0][0]

# How many colours a canvas shows.
COLORS = """(canvas) => new Set(new Uint32Array(canvas.getContext("2d").getImageData(
  0, 0, canvas.width, canvas.height).data.buffer)).size"""


@pytest.fixture(scope="module")
def seen():
    return trace(load("nano"), CLIP, name="nano")


@pytest.fixture(scope="module")
def fresh():
    torch.manual_seed(0)
    return trace(build("nano"), CLIP, name="fresh")


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def floats(text):
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").copy())


def matrix(packed):
    """As the page's own script reads it: low + byte × step, and half a step of each row."""
    low, step = floats(packed["low"]), floats(packed["step"])
    data = np.frombuffer(base64.b64decode(packed["bytes"]), dtype=np.uint8).astype(np.float32)
    values = torch.from_numpy(data).reshape(len(low), -1) * step[:, None] + low[:, None]
    return values, step / 2


def assert_within(packed, wanted_RS):
    values, half = matrix(packed)
    error = (values - wanted_RS).abs().amax(-1)
    assert (error <= half * 1.01 + 1e-6).all(), (error / half).max()


def test_a_file_called_like_a_mark_breaks_nothing(seen):
    harm = "@@SCRIPT@@ @@STYLE@@ @@DATA@@</script>.wav"
    plain, named = render(seen), render(replace(seen, source=harm))
    assert data_of(named)["source"] == harm
    assert named.count("<script") == plain.count("<script")
    assert abs(len(named) - len(plain)) < 200


def test_bytes_are_exact_to_half_a_step_in_every_row():
    values = torch.randn(7, 90) * torch.logspace(-4, 4, 7)[:, None]
    assert_within(quantised(values), values)
    assert_within(quantised(torch.full((2, 5), 3.5)), torch.full((2, 5), 3.5))


def test_data_is_that_of_the_trace(seen):
    data = data_of(render(seen))
    [one] = data["traces"]
    assert one["text"] == seen.text
    assert_within(one["log_mel"], seen.log_mel.values_SC.T)
    tracks = [seen.frames, *seen.stages, seen.audio]
    for packed, track in zip([one["frames"], *one["stages"], one["audio"]], tracks, strict=True):
        assert_within(packed, track.values_SC[:, packed["rows"]].T)
        torch.testing.assert_close(floats(packed["start_s"]).double(), track.start_s)
        torch.testing.assert_close(floats(packed["end_s"]).double(), track.end_s)
        assert packed["shape"] == [1, *track.values_SC.shape]
    answer, packed = seen.answers[0], one["answers"][0]
    assert packed["tokens"] == list(answer.tokens)
    assert_within(packed["attention"], answer.attention_on_audio.flatten(0, 1))
    assert [s["probability"] for s in packed["steps"]] == [
        s.chosen.probability for s in answer.steps
    ]
    audio, _ = soundfile.read(CLIP, dtype="int16")
    wav = np.frombuffer(base64.b64decode(data["wav"])[44:], dtype="<i2")
    assert np.abs(wav.astype(int) - audio).max() <= 1


def test_the_most_active_dimensions_come_first(seen):
    rows = data_of(render(seen))["traces"][0]["frames"]["rows"]
    activation = seen.frames.values_SC.abs().mean(0)
    assert rows == activation.argsort(descending=True)[:MOST_ROWS].tolist()


@pytest.mark.slow
def test_two_models_show_the_same_dimensions_and_say_what_is_the_same(seen, fresh):
    data = data_of(render(seen, fresh))
    assert data["same"] == {"log_mel": True, "frames": True}
    first, second = data["traces"]
    assert first["audio"]["rows"] == second["audio"]["rows"]
    assert [one["model"]["trained"] for one in data["traces"]] == [None, False]
    assert_within(second["audio"], fresh.audio.values_SC[:, first["audio"]["rows"]].T)


@pytest.mark.slow
def test_two_clips_do_not_go_on_one_page(seen):
    other = trace(load("nano"), toys.samples()[1][0])
    with pytest.raises(ConfigError, match="same samples"):
        render(seen, other)


def test_no_text_ends_the_script_and_no_mark_is_left(seen, fresh):
    page = render(seen, fresh)
    assert page.count("</script>") == 2
    assert "@@" not in page
    assert not re.search(r"(src|href)=\"(?!data:,|#)|https?://(?!www\.w3\.org/2000/svg)", page)


@pytest.mark.slow
def test_ten_seconds_take_less_than_five_megabytes():
    samples = np.concatenate(
        [soundfile.read(path, dtype="float32")[0] for path, _ in toys.samples()]
    )
    ten = trace(load("nano"), samples[:160_000], sampling_rate=16_000)
    assert len(render(ten).encode()) < 5_000_000


@pytest.mark.slow
def test_the_command_writes_the_page_and_refuses_in_one_line(tmp_path, seen):
    out = tmp_path / "page.html"
    done = typed("trace", str(CLIP), "--out", str(out))
    assert done.exit_code == 0, done.output
    assert seen.text in done.output
    assert data_of(out.read_text())["traces"] == data_of(render(seen))["traces"]
    lost = typed("trace", str(tmp_path / "none.wav"))
    assert lost.exit_code == 2
    assert "no such file" in lost.output


# In a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hubert():
    return trace(toys.toy_preset("hubert_swiglu_qwen3").build(), CLIP, name="toy")


@pytest.fixture(scope="module")
def paths(seen, fresh, hubert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    pages = {
        "one": render(seen),
        "two": render(seen, fresh),
        "hubert": render(hubert),
        "other": render(seen, hubert),
    }
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture
def opened(paths):
    """Opens a page; what it complained about and asked for is checked when the test is over."""
    with ExitStack() as stack:

        def open_page(name, width=1280, **options):
            size = {"width": width, "height": 900}
            page = stack.enter_context(browse(size, reduced_motion="reduce", **options))
            page.goto(paths[name].as_uri())
            pages.append(page)
            return page

        pages = []
        yield open_page
        assert all(page.outside == page.complaints == [] for page in pages)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "two", "hubert"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_opens_it_wide_and_narrow_light_and_dark(opened, name, width):
    page = opened(name, width, color_scheme="dark" if width < 1000 else "light")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for plot in page.locator("main .plot:visible").all():
        plot.scroll_into_view_if_needed()
        page.wait_for_timeout(30)
        assert plot.locator("canvas").evaluate(COLORS) > 1, "nothing is drawn"
    labels = page.evaluate("[...document.querySelectorAll('.pill')].map(p => p.textContent)")
    assert labels == (["untrained projector"] if name != "one" else [])
    assert page.evaluate("document.documentElement.dataset.theme") == (
        "dark" if width < 1000 else "light"
    )


@pytest.mark.slow
def test_the_pages_own_numbers_are_the_tensors(opened, seen):
    page = opened("one")
    for name, track in (("log_mel", seen.log_mel), ("frames", seen.frames), ("audio", seen.audio)):
        rows, steps, found = page.evaluate(
            f"""(() => {{ const t = window.trace.data.traces[0].{name};
            const all = t.rows.map((_, r) => Array.from(t.start_s, (_, s) => t.value(r, s)));
            return [t.rows, Array.from(t.step), all]; }})()"""
        )
        wanted = track.values_SC[:, rows].T
        error = (torch.tensor(found) - wanted).abs().amax(-1)
        assert (error <= torch.tensor(steps) / 2 * 1.01 + 1e-6).all(), name
    audio, _ = soundfile.read(CLIP, dtype="int16")
    assert page.evaluate("Array.from(window.trace.samples)") == audio.tolist()


def hover(page, plot, track):
    """Point at the middle of a heat map: what is read out is that step of that dimension."""
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    start, end, step, dimension, value, half = re.match(
        r"([\d.]+)–([\d.]+) s · step (\d+)\ndimension (\d+) = (\S+) ± (\S+)",
        page.locator("#tip").inner_text(),
    ).groups()
    wanted = track.values_SC[int(step), int(dimension)].item()
    assert float(value) == pytest.approx(wanted, abs=float(half) + 0.01 * abs(wanted))
    assert float(start) == pytest.approx(track.start_s[int(step)].item(), abs=1e-3)
    assert float(end) == pytest.approx(track.end_s[int(step)].item(), abs=1e-3)
    return x, y


@pytest.mark.slow
def test_encoders_of_other_widths_stand_side_by_side(opened, seen, hubert):
    page = opened("other")
    plots = page.locator("#frames .plot")
    hover(page, plots.first, seen.frames)
    hover(page, plots.last, hubert.frames)
    assert page.locator("#frames button").count() == 0  # no difference of other dimensions


@pytest.mark.slow
def test_zoom_and_drag_move_all_panels_and_hover_reads_the_value(opened, seen):
    page = opened("one")
    frames = page.locator("#frames .plot").first
    x, y = hover(page, frames, seen.frames)
    hovers = page.evaluate(
        "[...document.querySelectorAll('.hover')].filter(h => h.style.visibility === 'visible')"
        ".map(h => h.style.transform)"
    )
    assert len(set(hovers)) == 1
    assert len(hovers) > 8
    before = page.evaluate("({...window.trace.view})")
    page.locator("#closer").click()
    page.locator("#closer").click()
    zoomed = page.evaluate("({...window.trace.view})")
    length = zoomed["to_s"] - zoomed["from_s"]
    assert length == pytest.approx(0.36 * (before["to_s"] - before["from_s"]))
    box = frames.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 200, y, steps=4)
    page.mouse.up()
    dragged = page.evaluate("({...window.trace.view})")
    assert dragged["from_s"] > zoomed["from_s"]
    assert dragged["to_s"] - dragged["from_s"] == pytest.approx(length)
    page.locator("#whole").click()
    assert page.evaluate("window.trace.view.to_s") == before["to_s"]


@pytest.mark.slow
def test_playing_moves_one_cursor_through_every_panel(opened):
    page = opened("one")
    page.locator("#play").click()
    page.evaluate(
        "new Promise(done => window.trace.player.addEventListener('timeupdate', () =>"
        " window.trace.view.cursor_s > 0.3 && done()))"
    )
    page.locator("#play").click()
    moved = page.evaluate("window.trace.view.cursor_s")
    assert moved == pytest.approx(page.evaluate("window.trace.player.currentTime"), abs=0.1)
    page.wait_for_timeout(100)
    at = page.evaluate("[...document.querySelectorAll('main .cursor')].map(c => c.style.transform)")
    assert len(set(at)) == 1
    x = page.evaluate(
        "window.trace.timeX(window.trace.view.cursor_s, window.trace.plots[0].canvas.clientWidth)"
    )
    assert float(re.search(r"([\d.]+)px", at[0])[1]) == pytest.approx(x, abs=0.5)
    assert page.locator(".slot i.now").count() == 1


@pytest.mark.slow
def test_keys_reach_what_the_mouse_reaches(opened, seen):
    page = opened("two")
    page.locator("#waveform .plot").focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("window.trace.view.cursor_s") == pytest.approx(0.55)
    assert "sample 8800" in page.locator("#tip").inner_text()
    page.keyboard.press("+")
    assert page.evaluate("window.trace.view.to_s - window.trace.view.from_s") < seen.duration_s
    page.keyboard.press("0")
    page.locator("#stages button", has_text="B − A").click()
    shown = page.locator("#stages .plot:visible").count()
    assert shown == len(seen.stages)
    page.locator("#layer").select_option("1")


@pytest.mark.slow
def test_one_finger_scrolls_and_a_tap_reads(opened):
    page = opened("one", 390, has_touch=True)
    plot = page.locator("#log-mel .plot")
    plot.scroll_into_view_if_needed()
    plot.tap(position={"x": 200, "y": 60})
    assert "bin" in page.locator("#tip").inner_text()
    assert page.evaluate("window.trace.view.cursor_s") > 1
