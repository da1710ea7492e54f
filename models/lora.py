"""Low-rank adaptation (LoRA, Hu et al. 2021) of any functional model, chosen by a regex of kernels.

The adapted model has the base's variables and a subtree `lora/<path of the kernel>/{a,b}`, so that
task.frozen=(r"(?!lora/)",) trains nothing else; `merge` gives plain weights back.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax

from models.functional import Model, flatten, unflatten

Tree = Any
# a and b are thin, and rules written for a kernel must not be taken for them: the default rule.
SHARDING = ((r"(^|/)lora/", None),)


class LoRA:
    """base with W + (alpha / rank) · a b in place of W (section 4.1), for the kernels of `pattern`.

    A kernel [in, out] gets a [in, rank] and b [rank, out]; a stack [L, in, out] one pair for every
    layer; a convolution [kh, kw, I, O] one whose `in` is kh·kw·I. a is Gaussian and b zero, so the
    first output is exactly the base's. Embeddings count as kernels; vectors that the regex finds
    too are left alone. Raises ValueError (at init) where it finds no kernel.
    """

    def __init__(self, base: Model, *, pattern: str, rank: int = 8, alpha: float = 16.0):
        if rank < 1:
            raise ValueError(f"model.lora.rank={rank} must be at least 1; leave model.lora out.")
        self.base, self.pattern, self.rank, self.alpha = base, pattern, rank, alpha

    def init(self, key: jax.Array) -> dict[str, Tree]:
        """The base's variables under the same key, and the subtree `lora`."""
        variables = self.base.init(key)
        shapes = {path: leaf.shape for path, leaf in flatten(variables["params"]).items()}
        kernels = {p: s for p, s in shapes.items() if re.search(r"(^|/)(kernel|embedding)$", p)}
        chosen = {path: s for path, s in kernels.items() if re.search(self.pattern, path)}
        if not chosen:
            some = ", ".join(list(kernels)[:: max(1, len(kernels) // 4)][:4])
            raise ValueError(
                f'model.lora.pattern="{self.pattern}" matches no kernel; they are like {some}.'
            )
        added = {}
        for path, (*inputs, outputs) in chosen.items():
            layers = inputs[:1] if len(inputs) == 2 else []
            fan_in = math.prod(inputs[len(layers) :])
            # Keyed by the path: the same kernel starts alike whatever else the regex finds.
            own = jax.random.fold_in(key, zlib.crc32(path.encode()))
            a = jax.random.normal(own, (*layers, fan_in, self.rank)) * fan_in**-0.5
            added[f"{path}/a"] = a
            added[f"{path}/b"] = jax.numpy.zeros((*layers, self.rank, outputs))
        return {**variables, "params": {**variables["params"], "lora": unflatten(added)}}

    def apply(
        self, variables: Mapping[str, Tree], *args: Any, method: str = "__call__", **kwargs: Any
    ) -> Any:
        """`base.apply` under merged variables; gradients reach a and b through the product."""
        output = self.base.apply(self.merge(variables), *args, method=method, **kwargs)
        # What an adapted trunk computes depends on its a and b too.
        return f"(lora/)?({output})" if method == "below" else output

    def merge(self, variables: Mapping[str, Tree]) -> dict[str, Tree]:
        """Variables of the base, adapted: what to export. See the function `merge`."""
        return merge(variables, alpha=self.alpha)


def merge(variables: Mapping[str, Tree], *, alpha: float = 16.0) -> dict[str, Tree]:
    """Adapted variables -> the base's, each W replaced by W + (alpha / rank) · a b.

    Raises ValueError where there is no subtree `lora` or a pair has lost its kernel.
    """
    params = flatten(variables["params"])
    added = {path: params.pop(path) for path in list(params) if path.startswith("lora/")}
    if not added:
        raise ValueError("the variables hold no lora/ subtree; compare model.lora of the config")
    for path in [path for path in added if path.endswith("/a")]:
        a, b, kernel = added[path], added[path[:-1] + "b"], path.removeprefix("lora/")[:-2]
        if kernel not in params:
            raise ValueError(f"the variables hold `{path}` but no `{kernel}` that it adapts")
        w = params[kernel]
        params[kernel] = w + ((alpha / a.shape[-1]) * (a @ b)).reshape(w.shape).astype(w.dtype)
    return {**variables, "params": unflatten(params)}
