"""`tiny-audio params`: what a preset consists of."""

from __future__ import annotations

from typing import Annotated

import typer

from tiny_audio.commands import refusing, show


def params(
    preset: Annotated[
        str,
        typer.Argument(
            help="Preset to count, for example nano, whisper_tiny or hubert_swiglu_qwen3."
        ),
    ],
    lora: Annotated[
        bool,
        typer.Option(
            "--lora/--no-lora", help="Count the preset's LoRA adapters too, or leave them out."
        ),
    ] = True,
) -> None:
    """Count parameters and memory of every component, without weights or a download."""
    with refusing():
        from tiny_audio.scope.plan.parameters import components, render, true_scale

        rows = components(true_scale(preset, lora=lora))
    show(render(preset, rows))
