"""Few-shot slots (ATIS): find the spans of 5 types in questions about flights.

F1 over spans of test, 5-way 1~2/5~10-shot, MiniLM untrained: .567 ± .021 / .810 ± .013; as nearest
neighbours without Viterbi .552/.784, as prototypes .535/.698 (300 and 150 episodes).

    python train.py --config=configs/fewshot_slots_atis.py --config.data.path=DIR --workdir=runs/a

MiniLM and other methods: see configs/fewshot_slots_snips.py, from which this one differs in its
types alone. What a flight leaves by is trained on, when it arrives tuned on, who flies it, with
what and for how much tested on. Most sentences also name two cities, which are O there.

DIR holds `train/` and `valid/` with `seq.in` and `seq.out`.
"""

from configs import fewshot_slots_snips
from configs.common import finish

DEV = ("arrive_date.day_name", "arrive_date.day_number", "arrive_date.month_name")
DEV += ("arrive_time.period_of_day", "arrive_time.time", "arrive_time.time_relative")
TEST = ("aircraft_code", "airline_code", "airline_name", "class_type", "cost_relative", "economy")
TEST += ("fare_amount", "fare_basis_code", "flight_number", "meal", "meal_description")
TEST += ("transport_type",)


def get_config(arg: str = ""):
    c = fewshot_slots_snips.get_config().unlock()
    c.data.class_lists = dict(dev=DEV, test=TEST)
    c.data.min_rows = 20  # many types of ATIS stand in a few sentences: those are O
    return finish(c, arg)
