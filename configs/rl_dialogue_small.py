"""Dialogue small enough for its optimum to be known: two slots of three values, 15 % misheard.

Value iteration over beliefs (environments/value_iteration.py) gives the best return that any policy
can have, 15.370; PPO from random weights comes to 15.30 ± .05 (three seeds).

    python train.py --config=configs/rl_dialogue_small.py --workdir=runs/small-dialogue
"""

from configs import rl_dialogue
from configs.common import finish


def get_config(arg: str = ""):
    c = rl_dialogue.get_config().unlock()
    c.task.environment = dict(
        type="slot_filling",
        domain="toy",
        slots=("food", "area"),
        requestable=("phone",),
        noise=0.15,
        constrain=1.0,
        impossible=0.0,
        requests=0.0,
        initiative=0.0,
        patience=2,
        max_turns=8,
    )
    c.task.update(entropy=0.1, imitation=0.0)
    c.total_steps = 400
    return finish(c, arg)
