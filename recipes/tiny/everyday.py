"""Everyday sentences, written by SmolLM2 itself: `uv run python -m recipes.tiny.everyday`.

For each of 13,000 words that are one token, the language model continues a list of short sentences
with one that holds the word. So the corpus knows the decoder's vocabulary, not only that of books.
`everyday.txt` holds those that were written so far; new ones are added to it, and what is trained
and held out changes with them.
"""

import argparse
import random
import re

import torch

from recipes.tiny.paths import EVERYDAY
from tiny_audio.model.decoder import load_decoder, load_tokenizer
from tiny_audio.presets import preset
from tiny_audio.progress import progress

HEAD = "Short sentences that people say, one for each word."
SHOTS = {
    "kitchen": "My brother left his keys on the kitchen table again.",
    "yesterday": "What did the doctor tell you yesterday?",
    "river": "The old bridge over the river was closed because of the storm.",
    "ticket": "Could you please show me your ticket?",
    "painted": "They painted the front door bright green last summer.",
    "nobody": "Nobody in the office knew why the meeting had been moved to Friday.",
    "Chicago": "Her cousin moved from Chicago to Boston in the spring.",
    "careful": "Be careful, the floor is still wet!",
    "science": "Science is not only a collection of facts, it is a way of thinking.",
    "price": "The price of bread has gone up twice this year.",
    "laughed": "The children laughed when the dog stole the ball and ran away.",
    "government": "The government announced a new plan to improve public schools.",
    "quiet": "I need a quiet place where I can finish my book.",
    "engine": "If the engine makes that noise again, stop the car and call me.",
    "music": "We listened to music and talked until midnight.",
}
SENTENCE = re.compile(r"[A-Z][A-Za-z ,'\-]+[.?!]")
BATCH, MOST_TOKENS = 256, 28


class Writer:
    """SmolLM2 with the few-shot list as a shared prefix of all rows."""

    def __init__(self, seed: int):
        config = preset("tiny").decoder
        self.model = load_decoder(config, torch.bfloat16).eval()
        self.model.config._attn_implementation = (
            "eager"  # 1.4 times as fast for one new token a row
        )
        self.tokenizer = load_tokenizer(config.source)
        self.rng, _ = random.Random(seed), torch.manual_seed(seed)
        vocabulary = self.tokenizer.get_vocab()
        self.words = {w[1:]: i for w, i in vocabulary.items() if re.fullmatch(r"Ġ[A-Za-z]{3,}", w)}
        texts = (self.tokenizer.decode([i]) for i in range(self.model.config.vocab_size))
        self.ends = torch.tensor([i < 3 or "\n" in text for i, text in enumerate(texts)])

    @torch.inference_mode()
    def write(self) -> list[str]:
        """Write one batch of sentences, and return those that are whole and plain."""
        words = self.rng.sample(list(self.words), BATCH)
        shots = self.rng.sample(list(SHOTS.items()), 5)
        prefix = self.tokenizer.encode(HEAD + "".join(f"\n- {w}: {s}" for w, s in shots))
        cache = self.model(torch.tensor([prefix]), use_cache=True).past_key_values
        cache.batch_repeat_interleave(BATCH)
        dash, colon = (self.tokenizer.encode(text) for text in ("\n-", ":"))
        ids = torch.tensor([[*dash, self.words[word], *colon] for word in words])
        written, running = [], torch.ones(BATCH, dtype=torch.bool)
        for _ in range(MOST_TOKENS):
            out = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            ids = self.draw(out.logits[:, -1].float())
            running &= ~self.ends[ids[:, 0]]
            written.append(torch.where(running, ids[:, 0], -1))
            if running.float().mean() < 0.06:
                break
        rows = torch.stack(written, 1).tolist()
        kept = [
            row for row, unfinished in zip(rows, running.tolist(), strict=True) if not unfinished
        ]
        texts = (self.tokenizer.decode([i for i in row if i >= 0]).strip() for row in kept)
        return [t for t in texts if SENTENCE.fullmatch(t) and 3 <= len(t.split()) <= 22]

    def draw(self, logits_BV: torch.Tensor, temperature: float = 0.85) -> torch.Tensor:
        """Draw one token a row from the likeliest 95 %, at most 64 tokens."""
        likely, tokens = (logits_BV / temperature).softmax(-1).topk(64)
        likely = likely * ((likely.cumsum(-1) - likely) < 0.95)
        return tokens.gather(1, torch.multinomial(likely, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sentences", type=int, default=16_000, help="as many as the file shall hold"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    kept = dict.fromkeys(EVERYDAY.read_text().splitlines())
    writer = Writer(options.seed + len(kept))
    with progress() as bar, EVERYDAY.open("a") as file:
        task = bar.add_task("writing sentences", total=options.sentences)
        while len(kept) < options.sentences:
            fresh = [text for text in dict.fromkeys(writer.write()) if text not in kept]
            kept.update(dict.fromkeys(fresh))
            file.writelines(text + "\n" for text in fresh)
            file.flush()
            bar.update(task, completed=len(kept))


if __name__ == "__main__":
    main()
