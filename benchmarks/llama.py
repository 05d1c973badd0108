"""A trained LanguageModel → `transformers`' LlamaForCausalLM with its weights: benchmarks draw from it, a test compares the logits."""

from typing import Any

import torch

from raysynth.generators.language_model import LanguageModel
from raysynth.layout import Tokens


def as_llama(ours: LanguageModel) -> Any:
    """The same network, with the same weights, as `transformers` has it: the control tokens are the last of its vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    width, hidden = ours.width, ours.blocks[0].back.shape[0]
    table = torch.cat([ours.embedding, *ours.codes]).detach()
    config = LlamaConfig(
        vocab_size=len(table), hidden_size=width, intermediate_size=hidden, num_hidden_layers=len(ours.blocks),
        num_attention_heads=ours.heads, max_position_embeddings=len(ours.turns_TE), rms_norm_eps=1e-6, tie_word_embeddings=True,
        bos_token_id=Tokens.END, eos_token_id=Tokens.END, pad_token_id=Tokens.PAD,
    )  # fmt: skip
    llama = LlamaForCausalLM(config).eval()
    state = {"model.embed_tokens.weight": table, "lm_head.weight": table, "model.norm.weight": ours.last_norm}
    for number, block in enumerate(ours.blocks):
        q, k, v = (part.T for part in block.read.split(width, dim=1))
        gate, up = (part.T for part in block.gate.split(hidden, dim=1))
        parts = {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v, "self_attn.o_proj": block.write.T}
        parts |= {"mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": block.back.T}
        parts |= {"input_layernorm": block.norm, "post_attention_layernorm": block.gated_norm}
        state |= {f"model.layers.{number}.{name}.weight": part.detach().contiguous() for name, part in parts.items()}
    llama.load_state_dict(state)
    return llama
