"""How nano was made: corpus, tokenizer, training stages, evaluation and packing."""
