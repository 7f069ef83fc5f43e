"""A Llama of a few million parameters, made on the spot: for machines without a model, for demonstrations and tests.

Its weights are random numbers from a fixed seed, so what it writes is nonsense, the same nonsense on every machine.
Everything around it is real: tokenizer, chat template, safetensors, the engine that runs it, and the JSON that a schema
forces it to write. Random weights alone would never end a string or a number and soon say one word for ever, so `_lean`
and `_forbear` set a few of them by hand; then answers under a schema are short and complete.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

SEED = 20_26
HIDDEN, LAYERS, HEADS, INNER = 256, 4, 4, 688
POSITIONS = 4096
VOCABULARY = 512
SPECIAL = ("<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
NAME = "tiny-llama-1"
"""Also a version: what `make` writes for one name never changes."""
MARKS = {"</s>": 1.0, '"': 2.2, ",": -2.0, "E": -9.0, "e": -9.0, ".": -2.0}
UNLIKED = -4.0
MEMORY, FORBEARANCE = 6.0, 0.6
SHARED = 3.0
"""Of each token's embedding: where the weights of `LEAN` take hold."""

CHAT = (
    "{% if tools %}<|system|>You may call: {{ tools | tojson }}</s>{% endif %}"
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] or '' }}"
    "{% for call in message.get('tool_calls') or [] %}"
    "<tool_call>{{ call['function'] | tojson }}</tool_call>{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

TEXT = (
    "The order was delivered to the customer on Monday, and the customer wants to return the item.",
    "Please answer with the result of the task, the reason for it, and the name of the product.",
    "The refund of the payment will be sent to the original payment method within five to seven days.",
    "What is the status of my order? It should have been here on Friday. Can you change the address?",
    "An agent keeps its own state, says in a contract what it can do, and does what it has promised.",
    '{"name": "orders", "status": "delivered", "amount": 12.50, "items": ["lamp", "chair"], "done": true}',
    '{"answer": "yes", "reason": "the policy allows it", "confidence": 0.9, "sources": [1, 2, 3], "next": null}',
)


def make_tiny(cache: Path, *, seed: int = SEED, layers: int = LAYERS) -> Path:
    """The model's folder below `cache`, made when it is not there. Takes a second. Another seed or size is another
    model, with other nonsense. Raises ModuleNotFoundError where tokenizers or safetensors is missing.
    """
    name = NAME if (seed, layers) == (SEED, LAYERS) else f"{NAME}-{seed}-{layers}"
    folder = cache / name
    if not (folder / "config.json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        _into_place(_written(Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache)), seed, layers), folder)
    return folder


def _into_place(made: Path, folder: Path) -> None:
    """Whole or not at all, also when two processes make it at once."""
    made.chmod(0o755)
    try:
        os.rename(made, folder)
    except OSError:
        shutil.rmtree(made)
        if not (folder / "config.json").exists():
            raise


def _written(folder: Path, seed: int, layers: int) -> Path:
    ids = _write_tokenizer(folder)
    _write_weights(folder, ids, seed, layers)
    _write(folder / "config.json", _config(layers))
    _write(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    return folder


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True))


def _config(layers: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": POSITIONS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """Bytes and their commonest joins in `TEXT`. Returns the ids of its tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "model_max_length": POSITIONS,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT,
    }
    _write(folder / "tokenizer_config.json", settings)
    return tokenizer.get_vocab()


def _write_weights(folder: Path, ids: dict[str, int], seed: int, layers: int) -> None:
    """Normal numbers of a fixed seed."""
    import numpy
    from safetensors.numpy import save_file

    random = numpy.random.RandomState(seed)  # the one generator whose numbers NumPy promises never to change

    def normal(*shape: int, scale: float = HIDDEN**-0.5) -> Any:
        return (random.standard_normal(shape) * scale).astype(numpy.float32)

    weights = {
        "model.embed_tokens.weight": normal(VOCABULARY, HIDDEN, scale=1.0),
        "lm_head.weight": normal(VOCABULARY, HIDDEN),
        "model.norm.weight": numpy.ones(HIDDEN, numpy.float32),
    }
    for layer in range(layers):
        at = f"model.layers.{layer}"
        weights |= {f"{at}.{name}.weight": normal(*shape) for name, shape in _shapes().items()}
        weights |= {
            f"{at}.{name}.weight": numpy.ones(HIDDEN, numpy.float32)
            for name in ("input_layernorm", "post_attention_layernorm")
        }
    _forbear(weights)
    _lean(weights, ids)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _shapes() -> dict[str, tuple[int, int]]:
    attention = {f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"}
    return attention | {
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    }


def _forbear(weights: dict[str, Any]) -> None:
    """The first layer hands on the mean of all tokens, and the last one likes those less: no word comes for ever."""
    import numpy

    first = "model.layers.0.self_attn"
    weights[f"{first}.q_proj.weight"] = numpy.zeros((HIDDEN, HIDDEN), numpy.float32)
    weights[f"{first}.v_proj.weight"] = MEMORY * numpy.eye(HIDDEN, dtype=numpy.float32)
    weights[f"{first}.o_proj.weight"] = numpy.eye(HIDDEN, dtype=numpy.float32)
    weights["lm_head.weight"] -= numpy.float32(FORBEARANCE * HIDDEN**-0.5) * weights["model.embed_tokens.weight"]


def _lean(weights: dict[str, Any], ids: dict[str, int]) -> None:
    """A component that every token has and no layer writes to becomes a bias of the last layer, which Llama lacks."""
    weights["model.embed_tokens.weight"][:, 0] = SHARED
    for name, matrix in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            matrix[0, :] = 0.0
    head = weights["lm_head.weight"]
    head[:, 0] = 0.0
    for token, number in ids.items():
        head[number, 0] = _bias(token)


def _bias(token: str) -> float:
    """How much likelier than others, about in standard deviations of a logit. Numbers and strings come to an end, and
    few bytes are outside ASCII. In the tokenizer's alphabet those are single letters from `\u00a1` upwards.
    """
    if token in MARKS:
        return MARKS[token]
    if token in SPECIAL or token[0].isdecimal() or (len(token) == 1 and ord(token) > 0x7E):
        return UNLIKED
    return 0.0
