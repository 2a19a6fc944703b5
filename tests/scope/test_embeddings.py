"""Distributions of a clip's embeddings, against the path itself; distances, against loops."""

import pytest
import soundfile
import torch
import toys
from rich.console import Console
from typed import typed

from tiny_audio import load, load_audio
from tiny_audio.scope.trace.embeddings import (
    Embeddings,
    distribution,
    embeddings_of,
    energy_distance,
    gap,
    histogram,
    nearest,
    render,
)


def test_embeddings_are_those_of_the_path():
    model = load("nano")
    path, _ = toys.samples()[0]
    found = embeddings_of(model, path)
    frames_BTE, lengths_B = model.encoder(model.encoder.features([load_audio(path).samples]))
    torch.testing.assert_close(found.frames_TE, frames_BTE[0])
    torch.testing.assert_close(found.audio_PD, model.projector(frames_BTE, lengths_B)[0][0])
    assert found.words_VD.equal(model.get_input_embeddings().weight)


@pytest.mark.slow
def test_a_long_file_is_heard_window_by_window_without_padding(tmp_path):
    model = load("nano")
    path = tmp_path / "long.wav"
    soundfile.write(path, toys.clips(400_000)[0].numpy(), 16_000)  # 25 s, the window is 10 s
    found = embeddings_of(model, path)
    assert abs(len(found.frames_TE) - 1250) <= 3
    assert (found.audio_PD.norm(dim=-1) > 0).all()


def test_statistics_are_the_definitions():
    values = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)) * 2 + 1
    found = distribution(values)
    flat = values.flatten().double()
    assert (found.rows, found.width) == (7, 5)
    assert found.mean == pytest.approx(flat.mean().item(), rel=1e-5)
    assert found.std == pytest.approx(((flat - flat.mean()) ** 2).mean().sqrt().item(), rel=1e-5)
    assert found.rms == pytest.approx((flat**2).mean().sqrt().item(), rel=1e-5)
    assert (found.low, found.high) == pytest.approx((flat.min().item(), flat.max().item()))


def test_no_number_is_shown_as_minus_zero():
    around_0 = torch.tensor([[-1.0, 0.9999]])
    screen = Console(width=200)
    with screen.capture() as captured:
        screen.print(render(Embeddings(around_0, around_0, around_0)))
    assert " 0.000 " in captured.get()
    assert "-0.000" not in captured.get()


def test_energy_distance_is_its_definition_over_pairs():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 3, generator=generator)
    y = torch.randn(5, 3, generator=generator) + 1
    across = sum((a - b).norm() for a in x for b in y) / 30
    within_x = sum((a - b).norm() for a in x for b in x) / (6 * 5)
    within_y = sum((a - b).norm() for a in y for b in y) / (5 * 4)
    expected = (2 * across - within_x - within_y) / (2 * across)
    assert energy_distance(x, y) == pytest.approx(expected.item(), abs=1e-5)


def test_energy_distance_is_0_for_one_distribution_and_1_for_two_points():
    generator = torch.Generator().manual_seed(2)
    draws = torch.randn(600, 8, generator=generator)
    assert energy_distance(draws[:300], draws[300:]) == pytest.approx(0, abs=0.01)
    assert energy_distance(draws[:300], draws[300:] + 3) > 0.3
    assert energy_distance(torch.zeros(4, 2), torch.ones(4, 2)) == 1


def test_audio_that_is_words_has_no_gap():
    words = torch.randn(400, 16, generator=torch.Generator().manual_seed(3))
    found = gap(Embeddings(words[:50], words[:50], words))
    assert found.nearest_cosine == pytest.approx(1, abs=1e-5)
    assert found.norm_ratio == pytest.approx(1, abs=0.1)
    assert found.energy == pytest.approx(0, abs=0.05)


def test_nearest_cosine_is_the_largest_of_all():
    generator = torch.Generator().manual_seed(4)
    x, words = torch.randn(300, 8, generator=generator), torch.randn(20, 8, generator=generator)
    expected = torch.cosine_similarity(x[:, None], words[None], dim=-1).amax(-1)
    torch.testing.assert_close(nearest(x, words), expected)


def test_the_histogram_holds_every_value():
    shares, edges = histogram(torch.randn(50, 20))
    assert sum(shares) == pytest.approx(1)
    assert len(edges) == len(shares) + 1


@pytest.mark.slow
def test_the_command_prints_three_stages_and_draws_them(tmp_path):
    out = tmp_path / "e.png"
    path = str(toys.samples()[0][0])
    done = typed("embeddings", path, "--out", str(out), env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert all(word in done.output for word in ("frames", "audio", "words", "energy distance"))
    assert out.read_bytes().startswith(b"\x89PNG")
