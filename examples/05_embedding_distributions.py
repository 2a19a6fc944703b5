"""Three distributions: frames, audio embeddings, the language model's own embeddings."""

from options import model_of, options, title
from rich.console import Console

from tiny_audio.presets import preset
from tiny_audio.scope.trace.embeddings import draw, embeddings_of, render

args = options(__doc__)

if args.scale != "true":
    title(f"EMBEDDING STATISTICS ({args.model})")
    found = embeddings_of(model_of(args), args.file)
    Console().print(render(found))
    draw(found, args.out / "embedding_distributions.png")
    print(f"Saved {args.out / 'embedding_distributions.png'}")
    print("The histograms look alike; the energy distance says that the vectors are not.")

if args.scale != "nano":
    config = preset("hubert_swiglu_qwen3").config()
    num_frames = config.encoder.frames_for(48_000)
    title("SHAPES AT TRUE SCALE (3 s, HuBERT-xlarge and Qwen3-8B)")
    print(f"frames [{num_frames}, {config.encoder_dim}]")
    print(f"audio embeddings [{config.positions_for(48_000)}, {config.llm_dim}]")
    print(f"words [{config.text_config.vocab_size}, {config.llm_dim}]")
