"""Prototypical networks that tag: a word has the type whose support words are nearest on average.

O has a prototype too. ProtoBERT of Ding et al. 2021 (Few-NERD), over any encoder of words.
"""

from __future__ import annotations

from models.functional import Model
from tasks.protonet import ProtoNet
from tasks.word_learner import WordLearner


class TagProtoNet(WordLearner, ProtoNet):
    """distance, scale, learn_scale: as in ProtoNet."""

    def __init__(
        self,
        *,
        model: Model,
        frozen: tuple[str, ...] = (),
        distance: str = "euclidean",
        scale: float = 1.0,
        learn_scale: bool = False,
    ):
        own = dict(distance=distance, scale=scale, learn_scale=learn_scale)
        super().__init__(model=model, frozen=frozen, **own)
