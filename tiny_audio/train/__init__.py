"""Training: from a recipe to a model. Read the files in this order; each imports only those above.

    recipe         what a run is, as data: model, clips, stages
    experiments    recipes by name
    compose        the command line → a recipe
    stopping       signals that end a run, and who ends with whom
    distributed    several processes: who is who, and how a module is shared
    saves          what a stage goes on from, on disk
    track          rows of metrics, read back and shown in trackers
    curves         the picture of a run
    screen         the lines that a run prints
    hardware       whether bfloat16 is fast on a machine, and the memory that was held
    optim          AdamW and Muon
    loop           steps, schedule, evaluation and saves
    folder         whose a run's folder is
    frames         a frozen encoder's frames on disk
    batch          clips → a padded micro-batch
    data           sources → the clips of a run
    stages         what a stage trains
    task           the loss over an answer's tokens
    evaluation     validation clips on the way
    run            all of it together
    quickstart     the first run of a newcomer
    ctc            the loss over characters, and changed mel features
    ctc_clips      a CTC head's clips, by way of cached frames
    ctc_encoder    the same of an encoder that trains too
    head           the run of `train-head`
    adapt          a trained model fitted to own clips, measured before and after

What made the shipped model, `recipes/nano`, is built on these files and lies beside the package.
"""
