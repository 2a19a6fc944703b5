"""What a run prints of its evaluations."""

from tiny_audio.progress import UV, typed_command
from tiny_audio.train.screen import Lines, Rows, watched

SHORT = {"text": "stop", "hypothesis": "top"}
SENTENCE = {"text": "turn on the kitchen light", "hypothesis": "turn on the light"}


def evaluation(**changes):
    row = {"kind": "evaluation", "stage": "projector", "step": 0, "elapsed_s": 0.0}
    losses = {"loss": 3.01, "loss_shuffled": 3.02, "loss_silent": 3.03}
    words = {"wer": 0.5, "normalizer": "plain", "beams": 5, "token_accuracy": 0.25}
    return row | losses | words | {"samples": [SHORT, SENTENCE]} | changes


def test_a_message_names_the_command_that_works_where_it_is_read(monkeypatch):
    monkeypatch.delenv(UV, raising=False)
    assert typed_command() == "tiny-audio"
    monkeypatch.setenv(UV, "1")
    assert typed_command() == "uv run tiny-audio"


def test_the_watched_text_is_a_sentence_where_there_is_one():
    assert watched([SHORT, SENTENCE]) is SENTENCE
    assert watched([SHORT, {"text": "go on", "hypothesis": ""}])["text"] == "go on"


def test_a_line_names_stage_and_step_and_shows_an_empty_text(capsys):
    Lines()({"kind": "start", "stage": "all", "trainable": {"decoder": 30}, "peak_memory": 2**30})
    Lines()(evaluation(stage="all", samples=[{"text": "stop", "hypothesis": ""}]))
    shown = capsys.readouterr().err
    assert "stage all trains 30 of the decoder; peak memory 1.0 GiB\n" in shown
    assert "stage all, step 0: 50.0% WER" in shown
    assert "hypothesis  (nothing)\n" in shown


def test_rows_show_the_three_losses_and_say_what_the_wer_depends_on(capsys):
    rows = Rows()
    rows(evaluation())
    rows(evaluation(step=100, elapsed_s=25.0, loss=1.5, samples=[SHORT, SENTENCE]))
    shown = capsys.readouterr().err
    assert "normaliser plain, 5 beams" in shown
    assert shown.count("its right text is: turn on the kitchen light") == 1
    assert shown.count("it writes: turn on the light") == 2
    assert [line.split()[3:6] for line in shown.splitlines() if " s " in line and "%" in line] == [
        ["3.01", "3.02", "3.03"],
        ["1.50", "3.02", "3.03"],
    ]
    assert max(map(len, shown.splitlines())) <= 80
