"""A page to try a model with: its layout, and the process that serves it.

Everything comes from this process: fonts are the system's, nothing is counted or shared, and URLs
are never fetched for anybody.
"""

from __future__ import annotations

import hmac
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tiny_audio.model.errors import ConfigError, TinyAudioError
from tiny_audio.model.prompt import Turn

from .address import check_address
from .desk import MAX_CLIP_S, MAX_TRACE_S, Desk, reason
from .player import clock, failure, hint, note

MAX_UPLOAD_BYTES = 2**28  # two hours of mp3 at 256 kbit/s
MAX_WAITING = 16
KEEP_S = 3_600  # an upload can be listened to for an hour
MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
PAGES = Path(__file__).with_name("pages")
TEXT_ABOUT = (
    "The decoder alone, greedy. How well it converses is its own: nano's has read spoken numbers, "
    "dates and short requests, and nothing else."
)
EXPLAIN_ABOUT = (
    "Everything that happens to a clip, from its samples to the text: what the encoder hears, what "
    "the projector makes of it, which words the decoder considered."
)


def build(desk: Desk) -> gr.Blocks:
    """The page."""
    with gr.Blocks(
        title=f"Tiny Audio: {desk.name}",
        analytics_enabled=False,
        delete_cache=(60, KEEP_S),
    ) as page:
        gr.HTML(_head(desk), apply_default_css=False)
        with gr.Tab("Transcribe", id="transcribe"):
            clip = _transcribe_tab(desk)
        with gr.Tab("Text", id="text"):
            _text_tab(desk)
        with gr.Tab("Explain", id="explain"):
            _explain_tab(desk, clip)
    return page


def _head(desk: Desk) -> str:
    model = desk.transcriber.model
    path = (
        f"{model.config.encoder.family} encoder → {model.config.projector.kind} projector → "
        f"{model.config.text_config.model_type} decoder"
    )
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return (
        f'<header class="ta-head"><h1>Tiny Audio <span>{escape(desk.name)}</span></h1><p>{path} · '
        f"{millions:,.1f} M parameters on {model.device}</p></header>"
    )


def _transcribe_tab(desk: Desk) -> gr.Audio:
    """A clip on the left, what was said on the right; returns the clip."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            clip = _clip("clip")
            hotwords = gr.Textbox(
                "",
                label="Hotwords",
                info="Words that may well be said, with commas between them",
                placeholder="Ada, Grace Hopper",
                max_length=1_000,
                elem_id="hotwords",
            )
            prompt = gr.Textbox(
                "",
                label="Prompt",
                info="What to ask instead of the model's own instruction",
                placeholder=desk.transcriber.model.config.prompt.instruction,
                max_length=1_000,
                visible=desk.takes_prompts,
                elem_id="prompt",
            )
            run = gr.Button("Transcribe", variant="primary", elem_id="transcribe")
            if desk.untimed:
                gr.HTML(note(f"Words are not timed: {desk.untimed}"), apply_default_css=False)
        with gr.Column(scale=3, min_width=300):
            about = f"The text appears here. Files may last {MAX_CLIP_S / 3600:g} hours."
            result = _output("result", about)

    def transcribe(
        clip: str | None,
        hotwords: str,
        prompt: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 — how gradio hands it in
    ) -> str:
        def told(seconds: float, of: float) -> None:
            progress(seconds / of, desc=f"{clock(seconds)} of {clock(of)}")

        return _shown(clip, lambda path: desk.transcribe(path, hotwords, prompt, told))

    run.click(transcribe, [clip, hotwords, prompt], result, api_visibility="private", **MODEL)
    return clip


def _text_tab(desk: Desk) -> None:
    """The decoder alone."""
    gr.HTML(note(TEXT_ABOUT), apply_default_css=False)
    talk = gr.Chatbot(
        show_label=False,
        height=380,
        elem_id="talk",
        render_markdown=False,
        allow_tags=False,
        allow_file_downloads=False,
        buttons=[],
        feedback_options=None,
        placeholder="Write a message: the language model answers, without any sound.",
    )
    trouble = gr.HTML(elem_id="trouble", apply_default_css=False)
    message = gr.Textbox(
        show_label=False,
        placeholder="Message",
        max_length=4_000,
        submit_btn="Send",
        elem_id="message",
    )
    turns = gr.State(list[Turn]())

    def reply(text: str, said: list[Turn]) -> Iterator[tuple[Any, list[Turn], str, str]]:
        asked = [*said, Turn("user", text)]
        yield _messages(asked), said, "", ""
        try:
            answered = asked
            for written in desk.reply(asked):
                answered = [*asked, Turn("assistant", written)]
                yield _messages(answered), answered, "", ""
            if answered is asked:
                yield _messages(asked), said, "", failure("The decoder wrote nothing.")
        except TinyAudioError as error:
            yield _messages(said), said, text, failure(reason(error))

    outputs: list[Any] = [talk, turns, message, trouble]
    message.submit(reply, [message, turns], outputs, **QUIET, **MODEL)
    talk.clear(lambda: ([], [], "", ""), None, outputs, **QUIET)


def _explain_tab(desk: Desk, clip: gr.Audio) -> None:
    """A clip's way through the model."""
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            part = _clip("explained")
        with gr.Column(scale=2, min_width=260):
            gr.HTML(note(EXPLAIN_ABOUT), apply_default_css=False)
            run = gr.Button("Explain", variant="primary", elem_id="explain")
    result = _output("trace", f"The clip's page appears here. Clips may last {MAX_TRACE_S:g} s.")
    # The clip of the first tab is there already; the browser hands it over.
    clip.change(None, clip, part, js="(clip) => clip", **QUIET)

    def explain(
        clip: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 — how gradio hands it in
    ) -> str:
        progress(None, desc="following the clip")
        return _shown(clip, desk.explain)

    run.click(explain, part, result, api_visibility="private", **MODEL)


def _clip(name: str) -> gr.Audio:
    clip = gr.Audio(
        sources=["upload", "microphone"],
        type="filepath",
        label="Clip",
        elem_id=name,
        editable=False,
        buttons=[],
        waveform_options=gr.WaveformOptions(
            waveform_color="#8fb8c6", waveform_progress_color="#0b6e8a"
        ),
    )
    fetch = clip.async_move_resource_to_block_cache

    async def keep(url_or_file_path: str | Path | None) -> str | None:
        if "://" in str(url_or_file_path):
            raise gr.Error("Upload the file: addresses are not fetched.", print_exception=False)
        return await fetch(url_or_file_path)

    # Of this component only; a subclass would have gradio write a .pyi beside this file.
    clip.async_move_resource_to_block_cache = keep  # type: ignore[method-assign]
    return clip


def _output(name: str, about: str) -> gr.HTML:
    script = (PAGES / "demo.js").read_text()
    return gr.HTML(hint(about), js_on_load=script, elem_id=name, apply_default_css=False)


def _shown(clip: str | None, made: Callable[[Path], str]) -> str:
    """What was made of a clip, or why nothing was."""
    if clip is None:
        # A recording is still on its way when its length is shown already.
        return failure("There is no clip yet. Upload or record one until its wave is drawn.")
    try:
        return made(Path(clip))
    except TinyAudioError as error:
        return failure(reason(error, Path(clip)))


def _messages(turns: list[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in turns]


# The process ----------------------------------------------------------------------------------


class NoAddresses:
    """Gradio fetches `file=https://…` and `proxy=…` for its clients; this server does not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if "/proxy=" in path or re.search(r"/file=\s*[a-z]+:", path, re.I):
            await PlainTextResponse("Addresses are not fetched.", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def open_page(desk: Desk, host: str, port: int, token: str | None, folder: Path) -> gr.Blocks:
    """Serve the page from a thread; `close()` ends it. Uploads lie in `folder`."""
    check_address(host, token)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    page = build(desk).queue(max_size=MAX_WAITING, api_open=False)

    def admits(_: str, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (token or "").encode())

    try:
        page.launch(
            server_name=host,
            server_port=port,
            auth=admits if token else None,
            auth_message="Any name; the password is the token.",
            share=False,
            quiet=True,
            inbrowser=False,
            prevent_thread_lock=True,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            max_file_size=MAX_UPLOAD_BYTES,
            theme=_theme(),
            css=(PAGES / "demo.css").read_text(),
            app_kwargs={"middleware": [Middleware(NoAddresses)]},
        )
    except OSError as error:
        raise ConfigError(f"Port {port} of {host} is not free. Choose another: --port") from error
    return page


def serve(desk: Desk, host: str, port: int, token: str | None) -> None:
    """Serve the page until SIGTERM or SIGINT; then nothing of what was uploaded is left."""
    ended = Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="tiny-audio-demo-") as folder:
        page = open_page(desk, host, port, token, Path(folder))
        ended.wait()
        page.close(verbose=False)


def _theme() -> gr.themes.Base:
    """Quiet, in the colours of the trace, with the system's own fonts."""
    blue = gr.themes.Color(
        "#eef7fa",
        "#d8edf3",
        "#b3dce8",
        "#84c6d9",
        "#4facc6",
        "#2490ad",
        "#0b6e8a",
        "#0a5d75",
        "#0a4b5f",
        "#0a3d4d",
        "#072a36",
    )
    return gr.themes.Base(
        primary_hue=blue,
        secondary_hue=blue,
        neutral_hue="stone",
        radius_size="lg",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"],
    ).set(
        body_background_fill="#fbfaf8",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        block_radius="12px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
    )
