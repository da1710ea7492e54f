"""RL of captions of photographs: from a trained Flickr8k captioner, CIDEr-D of its own samples.

RLOO beside the cross-entropy of the references and a divergence from the start, so that it does not
only sharpen what it says. Compare each with its own best decoding on dev. Not trained to its end
yet.

    python train.py --config=configs/captioning_flickr8k_tuned.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-tuned
    python train.py --config=configs/rl_flickr8k.py --config.data.path=DIR \
        --config.init_from.workdir=runs/f8k-tuned --workdir=runs/rl-f8k
"""

from configs import captioning_flickr8k_tuned
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k_tuned.get_config().unlock()
    c.total_steps = 1_500
    c.model.encoder.weights = ""  # the run that it starts from has them
    c.task = dict(
        type="text_rl",
        frozen=c.task.frozen,
        rewards=dict(cider=dict(type="cider", weight=1.0)),
        samples=5,
        baseline="leave_one_out",
        scale="none",
        aggregate="sequence_sum",
        kl=0.01,
        kl_estimator="k1_in_reward",
        likelihood=0.2,  # of cross-entropy beside the reward
        missing_eos=0.5,
        seed=c.get_ref("seed"),
        length=c.task.length,
    )
    c.optim.update(lr=5e-5, warmup=50, schedule="linear")
    c.checkpoint.every = 500
    for section in c.evals.values():
        section.every = 500
    return finish(c, arg, small_encoder=True)
