"""The page: what its server gives, and a browser that uses it."""

import asyncio
import json
import re
from pathlib import Path

import browser
import httpx
import numpy as np
import pytest
import serving
import soundfile
import toys
from serving import URL, talking_to, wav
from typed import typed

from tiny_audio import load, save
from tiny_audio.infer.formats import FORMATS, verbose
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.audio import load_audio
from tiny_audio.scope.trace import trace
from tiny_audio.scope.trace.page import render
from tiny_audio.serve.app import create_app
from tiny_audio.serve.demo import PAGE, PAGES

CLIP, TEXT = toys.samples()[2]
HOSTILE = '<img src=x onerror=alert(1)> "a"'
# Keeps every "0:00 of 3:20" that the page shows.
NOTE_PROGRESS = r"""() => {
  window.seen = new Set();
  const note = () => seen.add(document.querySelector("#state").innerText);
  const all = { subtree: true, childList: true, characterData: true };
  new MutationObserver(note).observe(document.querySelector("#state"), all);
}"""


@pytest.fixture(scope="module")
def paged(service):
    return create_app(service, page=True)


@pytest.fixture
def visit(paged):
    def send(method, path, **what):
        async def one():
            async with talking_to(paged) as client:
                return await client.request(method, path, **what)

        return asyncio.run(one())

    return send


# What its server gives


def test_the_page_may_load_nothing_and_run_only_its_own_script(visit):
    answer = visit("GET", "/")
    assert answer.content == PAGE
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    text = answer.text
    assert not re.search(r"https?://|//cdn|@import|innerHTML|insertAdjacent|\bon\w+=\"", text)


def test_a_server_without_the_page_has_none(ask):
    for path in ("/", "/page/about", "/page/samples/01.flac"):
        assert ask("GET", path).status_code == 404


def test_addresses_are_not_fetched(visit):
    """The page before this one fetched any address for whoever asked."""
    inside = "http://127.0.0.1:1/secret"
    paths = ("gradio_api/file/", "gradio_api/file=", "page/samples/", "page/", "proxy=")
    for path in paths:
        assert visit("GET", f"/{path}{inside}").status_code == 404
    for path in (URL, "/page/trace"):
        assert visit("POST", path, data={"file": inside}).status_code == 400


def test_a_token_guards_everything_but_the_empty_page(service):
    app = create_app(service, "secret", page=True)

    async def scenario():
        async with talking_to(app) as client:
            paths = ("/", "/page/about", "/page/samples/01.flac")
            return [(await client.get(path)).status_code for path in paths]

    assert asyncio.run(scenario()) == [200, 401, 401]


def test_samples_are_those_of_the_repository(visit):
    names = visit("GET", "/page/about").json()["samples"]
    assert len(names) >= 3
    for name in names:
        assert (
            visit("GET", f"/page/samples/{name}").content
            == (toys.REPOSITORY / "samples" / name).read_bytes()
        )
    assert visit("GET", "/page/samples/..%2fpage.html").status_code == 404
    assert {path.suffix for path in PAGES.iterdir()} == {".html", ".flac"}


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["", "true"])
def test_one_answer_holds_every_format(visit, nano, times_of_words, stream):
    path, text = toys.samples()[2]
    fields = {"response_format": "all", "timestamp_granularities[]": "word", "stream": stream}
    fields = {name: value for name, value in fields.items() if value}
    answer = visit("POST", URL, files={"file": path.read_bytes()}, data=fields)
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.split("\n") if line]
        ends = [each["end"] for each in events[:-1]]
        assert ends == sorted(ends)
        assert ends[-1] == pytest.approx(load_audio(path).duration_s, abs=1e-3)
    found = events[-1]["formats"] if stream else answer.json()
    offline = nano.transcribe(path, timestamps="word")
    assert found["text"] == text
    for name in ("srt", "vtt"):
        assert found[name] == FORMATS[name](offline)
    assert found["verbose_json"] == verbose(offline, "en")
    kept = {**found["json"], "timings": {}}
    assert kept == json.loads(json.dumps({**offline.to_dict(), "timings": {}}))
    assert found["json"]["timings"]["total_s"] > 0


@pytest.mark.slow
def test_the_trace_is_that_of_the_command(visit, nano):
    path, _ = toys.samples()[0]
    answer = visit("POST", "/page/trace", files={"file": ("01.flac", path.read_bytes())})
    assert "sandbox" in answer.headers["content-security-policy"]
    plain = render(trace(nano.model, path, name="nano"))
    source = re.search(r'"source": "[^"]*"', plain)[0]
    assert answer.text.replace('"source": "01.flac"', source) == plain


def test_a_trace_has_its_own_limit(visit, service, monkeypatch):
    monkeypatch.setattr("tiny_audio.serve.demo.MAX_TRACE_S", 0.5)
    answer = visit("POST", "/page/trace", files={"file": wav(np.zeros(16_000))})
    assert answer.status_code == 400
    assert "0.5 s" in answer.json()["error"]["message"]


def test_another_address_needs_a_token():
    done = typed("demo", "--host", "0.0.0.0", env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "--token-file" in done.output


# A browser that uses it


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A server whose folder is empty again and which asked nobody, once it has ended."""
    folder = tmp_path_factory.mktemp("uploads")
    served = serving.demo(folder)
    yield served
    code, printed = served.end()
    assert code == 0, printed
    assert "outside:" not in printed
    assert "Traceback" not in printed
    assert not list(folder.iterdir())


@pytest.fixture(params=["wide", "phone"])
def page(demo, request):
    size = browser.PHONE if request.param == "phone" else browser.WIDE
    with browser.browse(size) as opened:
        opened.goto(demo.url)
        opened.wait_for_selector("#samples button")
        yield opened
        assert browser.overflow(opened) <= 0
        assert opened.outside == []
        refused = [c for c in opened.complaints if "status of 400" not in c]  # said on the page
        assert refused == []


@pytest.mark.slow
def test_an_upload_is_read_while_it_plays(page, nano):
    path, text = toys.samples()[2]
    assert serving.transcribe(page, path) == text == nano.transcribe(path).text
    words = nano.transcribe(path, timestamps="word").words
    page.click(".word >> nth=5")
    page.wait_for_selector(".now")
    seen = page.locator(".now").all_inner_texts()
    for _ in range(500):  # the page's policy forbids what wait_for_function evaluates
        shown = page.locator(".now").all_inner_texts()
        if shown and shown != seen:
            break
        page.wait_for_timeout(20)
    seen += shown
    assert seen == [words[5].text, words[6].text]
    at = page.eval_on_selector("#sound", "sound => sound.currentTime")
    assert words[6].start_s <= at <= words[-1].end_s
    for suffix in ("srt", "json"):
        with page.expect_download() as saved:
            page.get_by_role("link", name=suffix).click()
        assert saved.value.suggested_filename == f"03.{suffix}"
        kept = Path(saved.value.path()).read_text()
        if suffix == "srt":
            assert kept == FORMATS["srt"](nano.transcribe(path, timestamps="word"))
        else:
            assert json.loads(kept)["text"] == text


@pytest.mark.slow
def test_a_sample_is_transcribed_and_explained(page, tmp_path):
    page.get_by_role("button", name="03.flac").click()
    page.wait_for_selector("#chosen:not([hidden])")
    serving.press(page)
    assert page.inner_text("#text") == TEXT
    page.fill("#hotwords", "Ada, " * 100)
    serving.press(page, "explain")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save the page").click()
    assert saved.value.suggested_filename == "03_trace.html"
    saved.value.save_as(tmp_path / "trace.html")
    reader = page.context.new_page()
    reader.goto((tmp_path / "trace.html").as_uri())
    assert TEXT in reader.locator("#models").inner_text()
    with page.expect_popup() as opened:  # under the policy of the page that opens it
        page.get_by_role("link", name="Open the page").click()
    shown = opened.value
    complaints = []
    shown.on("console", lambda said: complaints.append(said.text))
    shown.wait_for_selector("#panels canvas")
    assert TEXT in shown.locator("#models").inner_text()
    assert shown.locator("#panels canvas").first.bounding_box()["width"] > 250
    assert browser.overflow(shown) <= 0
    assert complaints == []


QUESTIONS = {"describe": "What is this?", "faster": "Which is faster, <audio> or <audio>?"}


@pytest.fixture(scope="module")
def answering(tmp_path_factory):
    """A checkpoint that says it learnt two questions, and a page of it."""
    model = load("nano")
    model.config.tasks = QUESTIONS
    folder = save(model, tmp_path_factory.mktemp("answering") / "model", whole=True)
    served = serving.demo(tmp_path_factory.mktemp("uploads"), "--model", str(folder))
    yield served, Transcriber.from_pretrained(folder)
    assert served.end()[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [browser.WIDE, browser.PHONE], ids=["wide", "phone"])
def test_a_task_is_a_button_and_a_question_may_have_two_clips(answering, size):
    served, transcriber = answering
    paths = [path for path, _ in toys.samples()]
    with browser.browse(size) as page:
        page.goto(served.url)
        page.get_by_role("button", name="describe").wait_for()
        page.get_by_role("button", name="01.flac").click()
        page.wait_for_selector("#chosen:not([hidden])")

        def answered(button):
            page.get_by_role("button", name=button, exact=True).click()
            page.wait_for_selector("#work", state="hidden")
            return page.inner_text("#failure:not([hidden]), #answer:not([hidden]) #text")

        assert answered("describe") == transcriber.ask(QUESTIONS["describe"], paths[0]).text
        assert "2 × <audio>, and 1 chosen" in answered("faster")
        page.get_by_role("button", name="Keep this clip").click()
        page.get_by_role("button", name="03.flac").click()
        page.wait_for_selector("#chosen:not([hidden])")
        both = transcriber.ask(QUESTIONS["faster"], [paths[0], paths[2]]).text
        assert answered("faster") == both
        page.fill("#question", "Are they equal?")
        assert answered("Ask") == transcriber.ask("Are they equal?", [paths[0], paths[2]]).text
        page.get_by_role("button", name="1: 01.flac").click()
        assert "2 × <audio>, and 1 chosen" in answered("faster")
        assert browser.overflow(page) <= 0
        assert page.outside == page.complaints == []


def test_a_model_that_only_transcribes_is_asked_nothing(visit):
    found = visit("GET", "/page/about").json()
    assert found["tasks"] == {}
    assert found["takes_instructions"] is False


@pytest.mark.slow
def test_what_goes_wrong_is_said_on_the_page_and_runs_nothing(page, tmp_path):
    assert page.is_disabled("#transcribe")
    broken = tmp_path / f"{HOSTILE}.wav"
    broken.write_bytes(b"not audio at all" * 99)
    assert "not audio" in serving.transcribe(page, broken)
    assert page.inner_text("#name") == broken.name
    assert page.locator("main img").count() == 0
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    assert serving.transcribe(page, tmp_path / "silent.wav") == "Nobody speaks in this clip."
    assert "no speech" in page.inner_text("#facts")


@pytest.mark.slow
def test_a_long_file_says_how_far_it_is(page, tmp_path):
    clips = [load_audio(path).samples.numpy() for path, _ in toys.samples()]
    pause = np.zeros(9_600, np.float32)
    long = np.concatenate([part for clip in clips * 2 for part in (clip, pause)])
    soundfile.write(tmp_path / "long.mp3", long, 16_000)
    serving.choose(page, tmp_path / "long.mp3")
    page.evaluate(NOTE_PROGRESS)
    serving.press(page)
    seen = [each for each in page.evaluate("[...seen]") if " of 1:" in each]
    assert len(seen) >= 2, seen
    said = " ".join(page.locator(".word").all_inner_texts())
    assert said == " ".join([text for _, text in toys.samples()] * 2)
    assert page.locator("#text time").first.inner_text() == "0:00"


@pytest.mark.slow
def test_a_microphone_is_heard(demo, tmp_path):
    samples = load_audio(CLIP).samples.numpy()
    quiet = np.zeros(16_000, np.float32)
    said = np.concatenate([quiet, samples, quiet])
    soundfile.write(tmp_path / "said.wav", said, 16_000)
    fake = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={tmp_path / 'said.wav'}",  # again and again
    ]
    with browser.browse(args=fake) as page:
        for _ in range(3):  # on a busy machine the device stutters
            page.goto(demo.url)
            page.wait_for_selector("#samples button")
            page.click("#record")
            page.wait_for_selector("#record.recording")
            page.wait_for_timeout(1_000 * (1 + 2 * len(said) / 16_000))  # once whole, at least
            page.click("#record")
            page.wait_for_selector("#chosen:not([hidden])")
            serving.press(page)
            heard = page.inner_text("#result")
            if "thirtieth of august eighteen seventy seven" in heard:
                break
        # The device starts with a crackle that a word may be made of.
        assert "thirtieth of august eighteen seventy seven" in heard
        assert page.outside == page.complaints == []


@pytest.mark.slow
def test_a_token_is_asked_for_once(tmp_path):
    (tmp_path / "token").write_text("open sesame")
    served = serving.demo(tmp_path, "--token-file", tmp_path / "token")
    assert httpx.get(f"{served.url}/page/about").status_code == 401
    with browser.browse() as page:
        page.goto(served.url)
        page.wait_for_selector("#secret:not([hidden])")
        page.fill("#token", "open sesame")
        page.press("#token", "Tab")
        page.wait_for_selector("#samples button")
        assert page.is_hidden("#secret")
        assert serving.transcribe(page, CLIP) == TEXT
    code, printed = served.end()
    assert code == 0, printed
