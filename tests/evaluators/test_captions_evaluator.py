"""The captioning evaluator: order, padding, one compilation, scores, and what a person is shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evaluators.captions import Captions, decode
from training.sharding import make_mesh


def test_decodes_in_order_without_padding(data, variables, make_predict, captions):
    got = decode(make_predict(), variables, data, "dev", 4)
    assert got.ids == data.image_ids("dev")
    assert list(got.captions.values()) == [captions[i % 5] for i in range(13)]
    assert got.attention.shape == (13, 10, 9)


def test_reads_only_as_many_batches_as_the_limit_needs(data, variables, make_predict):
    seen = []
    original = data.one_pass

    def counted(*args, **kw):
        for batch in original(*args, **kw):
            seen.append(len(batch["index"]))
            yield batch

    data.one_pass = counted
    got = decode(make_predict(), variables, data, "dev", 4, limit=5)
    assert got.ids == data.image_ids("dev")[:5] and list(got.captions) == got.ids
    assert len(seen) == 2


def test_a_mirrored_view_is_decoded_from_images_also_where_features_are_cached(data, variables):
    asked, original = [], data.one_pass
    data.one_pass = lambda *args, images=False, **kw: asked.append(images) or original(*args, **kw)

    def predict(variables, batch, *, mirror=False, **options):
        rows = batch["image"][:, :1, 0, 0].astype(jnp.int32)
        return {"tokens": jnp.where(mirror, 5, 6) * jnp.ones_like(rows)[..., None]}

    evaluator = Captions(predict, data, batch_size=4, metrics=())
    evaluator.run(variables)
    plain = evaluator.decoded.tokens
    evaluator.decoding(mirror=True)
    evaluator.run(variables)
    assert asked == [False, True]
    assert (plain == 6).all() and (evaluator.decoded.tokens == 5).all()


def test_compiles_once_although_reference_lengths_differ(data, variables, make_predict):
    calls = []
    evaluator = Captions(make_predict(calls), data, batch_size=4)
    evaluator.run(variables)
    evaluator.run(variables)
    assert calls == [(1, 0.7)]
    evaluator.decoding(beam=3, length_penalty=0.9)
    evaluator.run(variables)
    assert calls == [(1, 0.7), (3, 0.9)]


def test_scores_and_keeps_what_it_found(data, variables, make_predict, captions):
    evaluator = Captions(make_predict(), data, batch_size=4, metrics=("bleu", "cider_d"))
    values = evaluator.run(variables)
    assert values["BLEU-4"] == pytest.approx(1.0, abs=1e-6) and values["CIDEr-D"] > 2
    assert evaluator.scores.ids == evaluator.decoded.ids
    assert evaluator.run({"on": variables["on"] * 0})["BLEU-4"] < 0.01  # empty captions


def test_examples_stop_at_the_end_of_the_caption(data, variables, make_predict, captions):
    evaluator = Captions(make_predict(), data, batch_size=4)
    evaluator.run(variables)
    example = evaluator.examples([1])[0]
    assert example.caption == captions[1] and list(example.words) == captions[1].split()
    assert example.attention.shape == (5, 9) and example.attention[:, 4].min() == 1
    assert example.score == pytest.approx(evaluator.scores.per_image["CIDEr-D"][1])
    assert len(example.references) == 3 and example.name == "dev_1.jpg"


def test_picks_spread_best_and_worst(data, variables, make_predict):
    evaluator = Captions(make_predict(), data, batch_size=4)
    evaluator.run(variables)
    values = evaluator.scores.per_image["CIDEr-D"]
    assert evaluator.pick(4) == [0, 3, 6, 9] and len(evaluator.pick(99)) == 13
    assert values[evaluator.pick(2, "best")].min() == np.sort(values)[-2]
    assert values[evaluator.pick(2, "worst")].max() == np.sort(values)[1]


def test_a_split_without_references_gives_captions_only(data, variables, make_predict):
    evaluator = Captions(make_predict(), data, split="test", batch_size=4)
    assert evaluator.run(variables) == {}
    assert len(evaluator.decoded.captions) == 4
    assert evaluator.pick(2, "best") == []
    assert evaluator.examples([0])[0].score is None


def test_a_mesh_changes_nothing_but_the_batch(data, variables, make_predict):
    mesh = make_mesh()
    alone = Captions(make_predict(), data, batch_size=4)
    together = Captions(make_predict(), data, batch_size=5, mesh=mesh)
    assert together.batch_size % len(jax.devices()) == 0
    assert together.run(variables) == alone.run(variables)
    assert together.decoded.captions == alone.decoded.captions


def test_errors_name_what_is_wrong(data, make_predict):
    with pytest.raises(ValueError, match="no split 'val'.*train, dev, test"):
        Captions(make_predict(), data, split="val")
    with pytest.raises(ValueError, match="beam=0"):
        Captions(make_predict(), data, beam=0)


def test_decoding_keeps_nothing_on_the_device(data, variables, make_predict):
    """Ten times the captions, the same live arrays: memory does not grow with a split."""
    sizes, predict = [], jax.jit(make_predict())

    def watched(variables, batch):
        sizes.append(sum(x.nbytes for x in jax.live_arrays()))
        return predict(variables, batch)

    data.sizes = data.sizes | {"dev": 80}
    decode(watched, variables, data, "dev", 4)
    assert len(sizes) == 20 and max(sizes[3:]) <= sizes[2]


def test_a_prediction_knows_which_images_it_is_given(data, variables, make_predict):
    """Samples have a key for each image, so the batch carries their index."""
    seen = []

    def predict(variables, batch, **search):
        jax.debug.callback(lambda i: seen.extend(i.tolist()), batch["index"])
        return make_predict()(variables, {"image": batch["image"]})

    Captions(predict, data, batch_size=5).run(variables)
    jax.effects_barrier()
    assert sorted(i for i in seen if i >= 0) == list(range(13))


def test_words_of_the_search_are_the_vocabularys(data, variables, make_predict):
    calls = []

    def predict(variables, batch, **search):
        calls.append(search)
        return make_predict()(variables, {"image": batch["image"]})

    evaluator = Captions(
        predict, data, batch_size=13, search={"banned": "red dog", "min_length": 3}
    )
    evaluator.run(variables)
    dog = tuple(data.tokenizer.encode("red dog"))
    assert calls[0]["banned"] == (dog,) and calls[0]["min_length"] == 3
    with pytest.raises(ValueError, match="zebra"):
        evaluator.decoding(forced="zebra")
    with pytest.raises(ValueError, match="did you mean min_length"):
        Captions(predict, data, search={"min_lenght": 3})
