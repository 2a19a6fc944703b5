"""The path of the sound, from file to tokens. Read the files in this order; each imports only those
above it.

    errors         what can go wrong, as one tree
    config         what makes every configuration strict
    bounds         what a checkpoint may cost
    sources        where pretrained parts lie
    binary         a binary file, value by value
    memory         freed memory, given back to the system
    gguf           a GGUF file: its metadata and its tensors
    llamacpp       a language model as llama.cpp names it
    ctranslate2    a Whisper model as CTranslate2 names it
    hub            pretrained parts, read whole or refused
    source         1 bytes, what they may cost, and the account of what became of them
    mpeg           the frames of an mp3
    containers     what a file is, where its sound begins, where another one follows
    headers        headers that announce less or more than there is
    media          containers that FFmpeg reads, in their own time
    sndfile        what libsndfile reads, from front to back
    decode         a file → chunks of samples
    audio          2 samples
    features       3 features
    encoder        4 frames
    projection     what every projector keeps to
    qformer        a projector of learned queries
    projector      5 audio embeddings: the other projectors, and the table of all
    template_worker  a process that renders one chat template
    template       chat templates under a limit
    prompt         6 turns of a conversation → ids, labels and audio slots
    messages       messages of transformers → turns and their clips
    decoder        the language model, read from disk
    decoding       how a model looks for its texts
    configuration  all of it together, and the length of a clip in positions
    lora           low-rank adapters on the layers of a pretrained part
    modeling       6 prompt embeddings: where audio meets text
    prepare        6 turns and clips → prompt embeddings, and both halves of that way
    steps          logits of the next token, with a key-value cache
    generation     7 tokens
    beam           the same with several texts at a time
    merging        adapters added into their layers
    quantize       weights of 8 bits, for a CPU
    processing     any audio and text → a batch under the names that transformers knows
    packing        trained weights in eight bits on disk
    identity       what a checkpoint belongs to: hashes and golden vectors
    saving         a checkpoint written
    pipeline       the same model through transformers' speech pipeline
    checkpoint     a checkpoint read: build, load; the last, and what transformers finds us by

Step 8, text, is `tiny_audio.infer`. This package itself imports none of them, so what only reads
audio needs no transformers.
"""
