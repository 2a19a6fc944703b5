"""Is everything there? The first transcript, without an account, a GPU or a download."""

import platform
import time

import torch
import transformers
from options import options, title

import tiny_audio
from tiny_audio import Transcriber

args = options(__doc__, scales=False)

title("WHAT IS INSTALLED")
print(f"Python {platform.python_version()}, PyTorch {torch.__version__}")
print(f"transformers {transformers.__version__}, Tiny Audio {tiny_audio.__version__}")

title("THE FIRST TRANSCRIPT")
transcriber = Transcriber.from_pretrained(args.model)
began = time.perf_counter()
transcript = transcriber.transcribe(args.file)
took_s = time.perf_counter() - began
print(f"{args.file}: {transcript.text}")
print(f"{transcript.duration_s:.2f} s of sound in {took_s:.2f} s; complete: {transcript.complete}")

print("\nTry it with your own voice in a browser: uv run tiny-audio demo --model nano --port 7860")
