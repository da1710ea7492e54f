"""Few-shot intents from static word vectors: a text is the mean of its words' in WordLlama.

Untrained, CLINC150's dev classes (split 01, 200 episodes), 5-way 1- and 5-shot: .896 ± .013 /
.979 ± .005 by ridge regression, .897 / .976 as prototypes; TF-IDF reaches .803 / .954. Rare words
weighed more (weighting="idf" with weights_skip=("^weight$",)) are worse, .891 / .974.

    pip install --no-deps wordllama==0.4.0.post1
    python train.py --config=configs/fewshot_intents_static.py --config.data.path=DIR \
        --workdir=runs/static

DIR holds `full.jsonl` ({"text", "label"} lines) and `class_splits/`, or CLINC150 or BANKING77 as
they are published.
"""

from configs import fewshot_intents
from configs.common import finish


def get_config(arg: str = ""):
    c = fewshot_intents.get_config().unlock()
    c.total_steps = 1_000
    c.data.tokenizer = "pypi:wordllama"
    c.data.update(max_len=64, lengths=(16, 32))
    c.model.encoder = dict(
        type="bag",
        width=256,
        weights="pypi:wordllama",  # empty: at random; sets weighting="one", pool="mean"
    )
    c.task = dict(type="ridge", penalty=0.3, scale=4.0, bias=0.0)
    return finish(c, arg)
