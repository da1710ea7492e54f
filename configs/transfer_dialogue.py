"""From restaurants to films in a few hundred dialogues: a dialogue policy that is carried over.

Both domains have three slots and three facts to be asked for, so that a policy fits both: it has a
return of 13.47 ± .05 at once, 13.52 ± .20 after 640 dialogues; from random weights -11 (3 seeds).

    python train.py --config=configs/rl_dialogue.py --config.task.environment.path=RESTAURANTS \
        --workdir=runs/dialogue
    python train.py --config=configs/transfer_dialogue.py --config.task.environment.path=FILMS \
        --config.init_from.workdir=runs/dialogue --workdir=runs/films

FILMS is the folder of movie_kb.1k.json. Without init_from it starts at random.
"""

from configs import rl_dialogue
from configs.common import finish


def get_config(arg: str = ""):
    c = rl_dialogue.get_config().unlock()
    c.total_steps = 40
    c.data.batch_size = 16  # 640 dialogues in all
    c.task.environment.domain = "movie_booking"
    c.task.update(imitation=0.0, entropy=0.01)
    c.optim.update(lr=5e-4, warmup=0)
    c.log_every = 10
    c.evals.dev.every = 10
    c.checkpoint.every = 10
    return finish(c, arg)
