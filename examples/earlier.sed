# Exercises of earlier texts run with these changes: the import lines, the model's id, the file.
#   sed -E -f examples/earlier.sed trace_projector.py > mine.py && uv run python mine.py
s/^from (src\.asr_modeling|src\.asr_config|transformers|datasets) import/from tiny_audio.course import/
s/^import librosa$/from tiny_audio.course import librosa/
/^import librosa\.display$/d
s/"(mazesmazes\/tiny-audio|facebook\/hubert-xlarge-ls960-ft)"/"nano"/
s/"hf-internal-testing\/librispeech_asr_dummy"/"samples\/manifest.jsonl"/
s/"test\.wav"/"samples\/01.flac"/
# One of them was printed with a space inside a name.
s/encoder_outpu t/encoder_output/
