"""The peer of benchmarks/decoding.py: the same Transformer in Hugging Face transformers' generate.

Runs under an interpreter that has torch and transformers (nothing here imports jax): Pegasus is a
pre-norm decoder of the same arithmetic. Answers one JSON line for each line it is sent.
"""

import json
import sys
import time

import numpy as np
import torch
from transformers import PegasusConfig, PegasusForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

SAME = (("attn", "self_attn"), ("cross", "encoder_attn"))
PARTS = (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "out_proj"))
NORMS = (("attn_norm", "self_attn_layer_norm"), ("cross_norm", "encoder_attn_layer_norm"))


def build(weights, unsaid):
    """Our weights in Pegasus' names; words that are never said get a bias of -1e4."""
    vocab, width = weights["embed/embedding"].shape
    layers, _, inner = weights["blocks/mlp/up/kernel"].shape
    config = PegasusConfig(
        vocab_size=vocab, d_model=width, decoder_layers=layers, decoder_ffn_dim=inner,
        decoder_attention_heads=8, encoder_layers=1, encoder_ffn_dim=8, dropout=0.0,
        attention_dropout=0.0, activation_function="gelu_pytorch_tanh", scale_embedding=True,
        max_position_embeddings=len(weights["positions"]), pad_token_id=0, eos_token_id=2,
        decoder_start_token_id=1, forced_eos_token_id=None,
    )  # fmt: skip
    model = PegasusForConditionalGeneration(config).eval()
    decoder, state = model.model.decoder, {}

    def put(name, module, index=None):
        for ours, theirs in (("kernel", "weight"), ("scale", "weight"), ("bias", "bias")):
            value = weights.get(f"{name}/{ours}")
            if value is not None:
                value = value if index is None else value[index]
                state[f"{module}.{theirs}"] = value.T if ours == "kernel" else value

    for i in range(layers):
        for ours, theirs in SAME:
            for part, proj in PARTS:
                put(f"blocks/{ours}/{part}", f"layers.{i}.{theirs}.{proj}", i)
        for ours, theirs in (*NORMS, ("mlp_norm", "final_layer_norm")):
            put(f"blocks/{ours}", f"layers.{i}.{theirs}", i)
        put("blocks/mlp/up", f"layers.{i}.fc1", i)
        put("blocks/mlp/down", f"layers.{i}.fc2", i)
    put("norm", "layer_norm")
    # Ours scales word and position together by the root of the width, theirs the word alone.
    state["embed_positions.weight"] = weights["positions"] * width**0.5
    state["embed_tokens.weight"] = weights["embed/embedding"]
    decoder.load_state_dict({k: torch.tensor(np.array(v)) for k, v in state.items()})
    model.model.shared.weight.data.copy_(decoder.embed_tokens.weight)
    model.tie_weights()
    model.final_logits_bias[:, unsaid] = -1e4
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    return model


def main(path, threads):
    torch.set_num_threads(threads)
    data = dict(np.load(path))
    beam, length = int(data.pop("beam")), int(data.pop("length"))
    grid, unsaid = torch.tensor(data.pop("grid")), data.pop("unsaid").tolist()
    model = build(data, unsaid)

    @torch.inference_mode()
    def run(returned):
        return model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=grid),
            num_beams=beam, num_return_sequences=returned, max_new_tokens=length, do_sample=False,
            length_penalty=0.7, output_scores=returned > 1, return_dict_in_generate=returned > 1,
        )  # fmt: skip

    found = run(beam)
    tokens = found.sequences[:, 1:].reshape(len(grid), beam, -1)
    print(json.dumps([tokens.tolist(), found.sequences_scores.reshape(-1, beam).tolist()]))
    sys.stdout.flush()
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            run(1)
        print(json.dumps(time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
