"""One measurement: `python -m training_parts NAME THREADS JSON`; the last line is its result."""

from __future__ import annotations

import json
import logging
import sys

import torch

from training_parts.growth import growth, listen
from training_parts.language_model import best_rates, language_model
from training_parts.step import step
from training_parts.vocabulary import vocabulary

MEASURES = {m.__name__: m for m in (step, vocabulary, best_rates, language_model, listen, growth)}

name, threads, arguments = sys.argv[1:]
logging.getLogger("transformers").setLevel(logging.ERROR)
torch.set_num_threads(int(threads))
print(json.dumps(MEASURES[name](**json.loads(arguments))))
