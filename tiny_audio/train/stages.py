"""Setting up a stage: the parts, adapters and rates that train, and the table that says so."""

from __future__ import annotations

from typing import Any

from tiny_audio.model.errors import ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.train.recipe import Stage

PREFIXES = {"projector": "projector.", "encoder": "audio_tower.", "decoder": "language_model."}
Table = dict[str, dict[str, int]]  # part → parameters in all, adapters among them, that train
# Of these layers transformers takes the weights alone: an adapter on them is never asked.
PASSED_BY = {"wavlm": {"q_proj", "k_proj", "v_proj", "out_proj"}}


def begin(model: AudioLM, stage: Stage) -> Table:
    """Freeze everything, then let train what the stage names; return the table of parameters.

    A part with `lora` trains its adapters alone. Adapters of an earlier stage stay, and train on
    where this stage names them again.
    """
    model.audio_tower.freeze()
    model.language_model.requires_grad_(False)
    model.projector.requires_grad_("projector" in stage.learning_rate)
    for part in sorted(set(stage.learning_rate) - {"projector"}):
        if part in stage.lora:
            adapt(model, part, stage)
        else:
            train_part(model, part)
    checkpoint_activations(model, stage.checkpoint_activations)
    made = table(model)
    check(made, stage)
    return made


def train_part(model: AudioLM, part: str) -> None:
    """Let all weights of `part` ("encoder" or "decoder") train, in float32: a bfloat16 weight of 1
    cannot move by 1e-3 (trap T25).
    """
    module = model.pretrained_part(part)
    if part == "encoder":
        model.audio_tower.freeze(False)
    else:
        module.requires_grad_(True)
    for parameter in module.parameters():
        parameter.data = parameter.data.float()


def adapt(model: AudioLM, part: str, stage: Stage) -> None:
    """Put adapters on a part: new ones, or those of an earlier stage if they are the same."""
    wanted, there = stage.lora[part], model.config.lora.get(part)
    family = model.config.encoder.family
    if part == "encoder" and (lost := PASSED_BY.get(family, set()) & set(wanted.targets)):
        raise ConfigError(
            f"LoRA on {family}'s {', '.join(sorted(lost))} would do nothing: its attention reads "
            f"their weights without the adapters. Use intermediate_dense and output_dense."
        )
    if there is None:
        model.add_lora(part, wanted)
    elif there != wanted:
        raise ConfigError(
            f"The {part} has adapters already ({there}), and this stage asks for {wanted}. "
            f"Give the same numbers to train them on."
        )
    for name, parameter in model.named_parameters():
        if name.startswith(PREFIXES[part]) and "lora_" in name:
            parameter.requires_grad_(True)


def checkpoint_activations(model: AudioLM, wanted: bool) -> None:
    """Compute the decoder's activations again in the backward pass instead of keeping them.

    transformers does so in training mode only; a frozen decoder is in it, its dropout is 0 (T14).
    """
    decoder: Any = model.language_model
    renamed = hasattr(decoder, "activation_checkpointing_enable")  # in transformers 5.23
    kind = "activation" if renamed else "gradient"
    if wanted:
        getattr(decoder, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    elif getattr(decoder, f"is_{kind}_checkpointing"):
        getattr(decoder, f"{kind}_checkpointing_disable")()


def table(model: AudioLM) -> Table:
    """Count parameters by part, from the model itself."""
    rows: Table = {}
    for part, prefix in PREFIXES.items():
        named = [(n, p) for n, p in model.named_parameters() if n.startswith(prefix)]
        rows[part] = {
            "total": sum(p.numel() for _, p in named),
            "lora": sum(p.numel() for n, p in named if "lora_" in n),
            "trainable": sum(p.numel() for _, p in named if p.requires_grad),
        }
    return rows


def check(made: Table, stage: Stage) -> None:
    """Check that what trains is what the stage says, no more and no less."""
    for part, row in made.items():
        named = part in stage.learning_rate
        due = row["lora"] if part in stage.lora else row["total"] if named else 0
        # An encoder's fixed positions never train.
        whole_encoder = part == "encoder" and named and part not in stage.lora
        if row["trainable"] != due and not (whole_encoder and row["trainable"] > 0):
            raise ConfigError(
                f"{row['trainable']:,} parameters of the {part} train, but the stage says {due:,}."
            )


def rates(stage: Stage) -> dict[str, float]:
    """Return learning rates by prefix of the names in `Listening`."""
    return {f"model.{PREFIXES[part]}": rate for part, rate in stage.learning_rate.items()}
