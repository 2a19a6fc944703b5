"""A trace holds what the path itself computes, and every step stands at its own time."""

import math

import pairs
import pytest
import torch
import toys

from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.audio import load_audio
from tiny_audio.model.checkpoint import load
from tiny_audio.model.errors import AudioError
from tiny_audio.model.features import HOP_SAMPLES, MIN_SAMPLES, valid_mask
from tiny_audio.model.generation import write
from tiny_audio.model.identity import is_trained
from tiny_audio.model.modeling import positions_of
from tiny_audio.model.processing import AudioProcessor
from tiny_audio.model.projector import PROJECTORS
from tiny_audio.model.prompt import Turn, render, transcription_turns
from tiny_audio.model.saving import save
from tiny_audio.presets import build
from tiny_audio.presets import load as load_named
from tiny_audio.scope.trace.layers import layers
from tiny_audio.scope.trace.path import _made_by, trace
from tiny_audio.scope.trace.timeline import Clock, Span

RATE = 16_000


def follow(model, clip, **options):
    return trace(model, clip, sampling_rate=RATE, **options)


@pytest.fixture(scope="module")
def nano():
    return load_named("nano")


@pytest.fixture(scope="module")
def seen(nano):
    clip = load_audio(toys.samples()[0][0]).samples[:77_600]  # up to its last pause: one window
    return trace(nano, clip, sampling_rate=RATE)


@pytest.mark.parametrize("name", toys.EVERY_PRESET)
def test_the_tensors_are_those_of_the_path(name):
    model = toys.toy_preset(name).build()
    [clip] = toys.clips(6_666)
    found = follow(model, clip)
    frames = model.encode(clip, RATE)
    audio, _ = model.projector(frames, torch.tensor([frames.shape[1]]))
    torch.testing.assert_close(found.frames.values_SC[None], frames)
    torch.testing.assert_close(found.audio.values_SC[None], audio.detach())
    written = Transcriber(model).transcribe(clip, sampling_rate=RATE, min_logprob=-math.inf)
    assert found.text == written.text
    assert len(found.audio.values_SC) == model.config.positions_for(len(clip))
    assert found.audio_norms.shape == (len(found.audio.values_SC),)


@pytest.mark.parametrize("kind", toys.quick(toys.PROJECTORS, ("swiglu", "qformer")))
def test_stages_lead_from_frames_to_audio_embeddings(kind):
    model = pairs.model_of("hubert", kind)
    [clip] = toys.clips(7_000)
    found = follow(model, clip)
    names = [track.name for track in found.stages]
    assert set(layers(model.projector)) <= set(names)
    assert not [name for name in names if name.startswith("into ")], "a stage without a name"
    torch.testing.assert_close(found.stages[-1].values_SC, found.audio.values_SC)
    for track in found.stages:
        assert len(track.start_s) == len(track.end_s) == len(track.values_SC)
        assert (track.end_s > track.start_s).all()
        assert track.end_s.max() <= found.frames.end_s.max()
        assert (track.start_s[1:] >= track.start_s[:-1]).all()


def test_every_projector_has_its_stages_tested():
    assert set(toys.PROJECTORS) == set(PROJECTORS)


@pytest.mark.slow
def test_swiglu_is_seen_step_by_step():
    model = pairs.model_of("hubert", "swiglu")
    projector = model.projector
    found = {t.name: t.values_SC for t in follow(model, toys.clips(9_000)[0]).stages}
    with torch.no_grad():
        x = found["ln_pre"]
        torch.testing.assert_close(projector.ln_pre(found["stacked frames"]), x)
        gated = torch.nn.functional.silu(projector.gate_proj(x)) * projector.up_proj(x)
        torch.testing.assert_close(found["silu(gate) × up"], gated)
        torch.testing.assert_close(found["down_proj"], projector.down_proj(gated))


@pytest.mark.parametrize("encoder", toys.quick(pairs.ENCODERS, ("whisper", "hubert")))
@pytest.mark.parametrize("pool", [(1, 1), (5, 2)])
@pytest.mark.parametrize("num_samples", [100, 9_999, 32_000])
def test_steps_cover_the_audio_to_one_frame(encoder, pool, num_samples):
    config = pairs.toy_encoder(encoder, pool=pool)
    model = pairs.model_of(encoder, "swiglu")
    model.config.audio_config = config.to_dict()
    clock, span = Clock(model.config), Span(0, num_samples)
    num_frames = config.frames_for(num_samples)
    frames = clock.frames(span, torch.zeros(num_frames, 1))
    num_positions = model.config.projector.positions_for(num_frames)
    audio = clock.stage(span, "", "", torch.zeros(num_positions, 1), num_frames)
    mel = clock.mel(span, torch.zeros(max(num_samples, MIN_SAMPLES) // HOP_SAMPLES, 1))
    frame_s = clock.frame[0] / RATE
    for track in (frames, audio, mel):
        assert torch.equal(track.start_s[1:], track.end_s[:-1])
        assert track.start_s[0] <= frame_s
        assert num_samples / RATE - frame_s <= track.end_s[-1] <= num_samples / RATE
    padded = 30.0 if encoder == "whisper_full" else num_samples / RATE
    assert frames.padded_to_s == padded


@pytest.mark.slow
def test_a_click_is_seen_where_it_is_heard(nano):
    clip = torch.zeros(40_000)
    at = 23_456
    clip[at] = 1.0
    found = follow(nano, clip)
    loudest = found.log_mel.values_SC.sum(-1).argmax()
    assert found.log_mel.start_s[loudest] - 0.01 <= at / RATE <= found.log_mel.end_s[loudest] + 0.01


@pytest.mark.parametrize("encoder", ["whisper", "hubert_large"])
def test_what_changes_a_sample_changes_the_convolutions_there(encoder):
    """The frames that a changed sample reaches lie around its time, evenly on both sides."""
    model = pairs.model_of(encoder, "linear")
    [clip] = toys.clips(32_000)
    other, at = clip.clone(), 16_789
    other[at] += 0.5
    clock = Clock(model.config)

    def convolved(samples):
        heard = model.encoder.features([samples])
        inner = model.encoder.model
        if model.config.encoder.takes_mel:
            x = torch.nn.functional.gelu(inner.conv1(heard.values))
            return inner.conv2(x)[0].T
        return inner.feature_extractor(samples[None])[0].T  # unnormalised: a sample stays local

    with torch.no_grad():
        changed = (convolved(clip) - convolved(other)).abs().amax(-1) > 1e-6
    frames = clock.frames(Span(0, len(clip)), torch.zeros(len(changed), 1))
    centre = (frames.start_s[changed].min() + frames.end_s[changed].max()) / 2
    assert abs(centre.item() - at / RATE) <= clock.frame[0] / RATE


def test_neighbours_and_padding_change_nothing():
    """The same clip in a padded batch, through the processor, as a server would run it."""
    model = toys.toy_preset("whisper_tiny").build()
    clips = toys.clips(9_000, 20_000)
    found = follow(model, clips[0])
    batch = pairs.batch_of(model, clips)
    made = model.embed_audio(pairs.features_of(batch))
    audio = made.audio_BPD[0][valid_mask(made.lengths_B, made.audio_BPD.shape[1])[0]]
    torch.testing.assert_close(found.audio.values_SC, audio.detach(), rtol=1e-4, atol=1e-5)
    stops = AudioProcessor(model.tokenizer, model.config).stop_ids()
    together = write(model, *pairs.prompts_of(model, batch), stops, [46, 63])[0]
    assert found.answers[0].ids[-len(together.tokens) :] == tuple(together.tokens)


@pytest.mark.slow
def test_a_full_window_is_padding_that_counts_for_nothing():
    model = pairs.model_of("whisper_full", "swiglu")
    [clip] = toys.clips(32_000)
    found = follow(model, clip)
    assert found.log_mel.padded_to_s == found.frames.padded_to_s == 30.0
    assert found.log_mel.end_s[-1] <= 2.0
    assert len(found.log_mel.values_SC) == 200
    features = model.encoder.features([clip]).values[0, :, :200]
    torch.testing.assert_close(found.log_mel.values_SC, features.T)
    assert found.log_mel.rms == pytest.approx(features.square().mean().sqrt().item())


def test_prompt_and_probabilities_are_those_of_the_decoder(nano, seen):
    answer = seen.answers[0]
    model, samples = nano, seen.samples_N
    config, tokenizer = model.config, model.tokenizer
    positions = [config.positions_for(len(samples))]
    turns = [*transcription_turns(config.prompt), Turn("assistant", seen.text)]
    prompt = render(turns, positions, tokenizer, config.prompt)
    assert answer.ids == tuple(prompt.ids)
    assert answer.labels == tuple(prompt.labels)
    assert answer.slots == tuple(prompt.slots)
    assert answer.finish_reason == "stop"
    for step in answer.steps:
        assert step.chosen == step.alternatives[0]  # it writes greedily
        total = sum(one.probability for one in step.alternatives)
        assert step.chosen.probability <= total <= 1 + 1e-5


def test_attention_is_that_of_one_forward_over_prompt_and_answer(nano, seen):
    answer = seen.answers[0]
    ids = torch.tensor([answer.ids])
    audio = seen.audio.values_SC[None]
    embeds = nano.fuse(ids, audio, torch.tensor([audio.shape[1]]))
    decoder = nano.language_model
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    mask = torch.ones_like(ids)
    with torch.no_grad():
        out = decoder(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions_of(mask),
            output_attentions=True,
        )
    decoder.set_attn_implementation(before)
    [(start, length)] = answer.slots
    first = len(answer.ids) - len(answer.steps)
    for layer, weights in enumerate(out.attentions):
        rows = weights[0].mean(0)[first - 1 : -1, start : start + length]
        torch.testing.assert_close(answer.attention_KSP[layer], rows, rtol=1e-4, atol=1e-6)
    sums = answer.attention_on_audio.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert (answer.audio_share < 1).all()
    likely = out.logits[0, first - 1 : -1].softmax(-1)
    for row, step in zip(likely, answer.steps, strict=True):
        assert step.chosen.probability == pytest.approx(row[step.chosen.token_id].item(), abs=1e-4)


def test_the_decoder_attends_as_before_afterwards(nano, seen):
    assert nano.language_model.config._attn_implementation != "eager"


@pytest.mark.slow
def test_nearest_tokens_are_the_largest_cosines(nano, seen):
    table = nano.get_input_embeddings().weight.detach()
    cosines = torch.nn.functional.cosine_similarity(
        seen.audio.values_SC[:, None], table[None], dim=-1
    )
    best = cosines.topk(3, dim=-1)
    torch.testing.assert_close(seen.nearest.cosines_PK, best.values)
    assert torch.equal(seen.nearest.ids_PK, best.indices)
    torch.testing.assert_close(seen.text_norms_V, table.norm(dim=-1))


@pytest.mark.slow
def test_long_audio_lies_on_one_axis():
    """Nano's encoder takes 10 s: what is longer has several windows and prompts."""
    model = toys.toy_preset("nano").build()
    longest = model.config.encoder.max_samples
    [clip] = toys.clips(longest + 20_000)
    clip[longest - RATE : longest - RATE // 2] = 0  # a pause to cut in
    found = follow(model, clip)
    assert len(found.spans) == len(found.answers) == 2
    assert found.spans[0].end == found.spans[1].start
    assert found.spans[1].end == len(clip)
    first = found.answers[1].first_position
    assert found.audio.start_s[first] == pytest.approx(found.spans[1].start / RATE, abs=0.03)
    assert (found.audio.start_s[1:] >= found.audio.end_s[:-1] - 1e-9).all()
    assert first + found.answers[1].num_positions == len(found.audio.values_SC)


@pytest.mark.slow
def test_windows_of_one_prompt_lie_on_one_axis_too():
    model = toys.toy_preset("mufun").build()
    [clip] = toys.clips(31 * RATE)
    found = follow(model, clip)
    assert [span.num_samples for span in found.spans] == [30 * RATE, RATE]
    [answer] = found.answers
    assert (
        answer.num_positions == len(found.audio.values_SC) == model.config.positions_for(len(clip))
    )
    assert found.audio.end_s[-1] == pytest.approx(31.0, abs=0.05)
    assert found.frames.padded_to_s == 60.0


def test_too_long_a_file_is_refused_with_a_cure(nano):
    with pytest.raises(AudioError, match=r"301 s long.*ffmpeg"):
        follow(nano, torch.zeros(301 * RATE) + 0.1)


def test_an_untrained_projector_is_known_until_something_trains_it():
    model = build("nano")
    assert is_trained(model) is False
    optimizer = torch.optim.SGD(model.projector.parameters(), lr=1e-2)
    frames = model.encode(toys.clips(8_000)[0], RATE)
    model.projector(frames, torch.tensor([25]))[0].sum().backward()
    optimizer.step()
    assert is_trained(model) is True


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_a_checkpoint_remembers_it(tmp_path, dtype):
    model = build("nano")
    loaded = load(save(model, tmp_path / "fresh", dtype=dtype))
    assert is_trained(loaded) is False
    assert is_trained(load(save(loaded, tmp_path / "again"))) is False
    with torch.no_grad():
        loaded.projector.down_proj.weight.add_(0.01)
    assert is_trained(load(save(loaded, tmp_path / "trained"))) is True


def test_a_checkpoint_without_a_record_claims_nothing(seen):
    assert seen.model.trained is None


@pytest.mark.parametrize(
    ("source", "family", "expected"),
    [
        ("./encoder", "whisper", "the model's own, Whisper's architecture"),
        ("openai/whisper-tiny.en", "whisper", "whisper-tiny.en, Whisper's architecture"),
        ("parts/SmolLM2.Q4_1.gguf", "llama", "SmolLM2.Q4_1.gguf, Llama's architecture"),
        ("x/y", "newest", "y, newest's architecture"),
    ],
)
def test_a_part_is_described_by_its_weights_and_its_architecture(source, family, expected):
    assert _made_by(source, family) == expected
