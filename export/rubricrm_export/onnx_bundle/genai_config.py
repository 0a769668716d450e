"""genai_config.json, so that onnxruntime-genai loads the bundle too. It refuses keys it does not know."""

from __future__ import annotations

import json

from rubricrm.runtime.manifest import Manifest

from rubricrm_export.graph.writer import GRAPH_FILE

# onnxruntime-genai allocates keys and values for the whole of it: 1.2 GB for a 4B model, 12 GB for its full context.
MAX_LENGTH = 4096


def genai_config(manifest: Manifest) -> str:
    """Return the file's text for a manifest.

    The search defaults are greedy decoding into a buffer that past and present share, as the graph expects.
    """
    model = manifest.model
    document = {
        "model": {
            "type": "qwen3" if model.architecture == "Qwen3ForCausalLM" else "llama",
            "vocab_size": model.vocab_size,
            "context_length": model.context_length,
            "eos_token_id": list(manifest.prompt.stop_ids),
            "pad_token_id": manifest.prompt.stop_ids[0],
            "decoder": {
                "filename": GRAPH_FILE,
                "head_size": model.head_dim,
                "hidden_size": model.hidden_size,
                "num_attention_heads": model.num_heads,
                "num_key_value_heads": model.num_kv_heads,
                "num_hidden_layers": model.num_layers,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
                "session_options": {"provider_options": []},
            },
        },
        "search": {
            "do_sample": False,
            "max_length": min(model.context_length, MAX_LENGTH),
            "past_present_share_buffer": True,
        },
    }
    return json.dumps(document, indent=2) + "\n"
