"""Small random programs, written by hand, for tests that need no torch."""

import numpy as np

from aero.graph import Node, Program

SUMMED_ANEW = 1e-12
"""How far the same values of a `random_program` may lie apart, added up in another order (memory decides on it).

Values are of size 1, along a chain of at most 20 sums of at most 32 terms: 20 * 32 * 2^-53 = 7e-14 of their absolute
sums, which are less than 10 times as large.
"""


def random_program(
    *,
    length: int = 6,
    width: int = 8,
    heads: int = 2,
    vocabulary: int = 11,
    layers: int = 2,
    norm: bool = False,
    activation: str | None = None,
    scaled: bool = False,
    fused: bool = True,
    frozen_norm: bool = False,
    parallel: bool = False,
    rotary: bool = False,
    every_position: bool = False,
    seed: int = 0,
) -> Program:
    """A decoder as the compiler lowers it; the FFN is fused where there is no activation (or two linear layers).

    frozen_norm: norms with frozen statistics, which are affine maps; parallel: attention and FFN read the same value;
    rotary: half of the features of each head turn, and there is no position table; activation "gelu_erf": GELU's exact
    form; every_position: all logits, not the last position's alone.
    """
    rng = np.random.default_rng(seed)
    nodes: list[Node] = []
    weights: dict[str, np.ndarray] = {}

    def add(
        name: str, op: str, *inputs: str, tensors: dict[str, np.ndarray] | None = None, **attrs: float | str
    ) -> str:
        for role, array in (tensors or {}).items():
            weights[f"{name}.{role}"] = array
        nodes.append(Node(name, op, inputs, tuple(f"{name}.{role}" for role in tensors or {}), attrs))
        return name

    def linear(name: str, x: str, k: int, m: int) -> str:
        return add(name, "linear", x, tensors={"w": rng.normal(0, k**-0.5, (k, m)), "b": rng.normal(0, 0.1, m)})

    def layer_norm(name: str, x: str) -> str:
        if not (norm or frozen_norm):
            return x
        x = add(name, "layer_norm", x, eps=1e-5) if norm else x
        x = add(f"{name}.gain", "gain", x, tensors={"w": rng.uniform(0.5, 1.5, width)})
        return add(f"{name}.bias", "bias", x, tensors={"w": rng.normal(0, 0.1, width)})

    x = add("embedding", "embedding", "ids", tensors={"table": rng.normal(0, 0.5, (vocabulary, width))})
    if not rotary:
        x = add("positions", "bias", x, tensors={"w": rng.normal(0, 0.5, (length, width))})
    x = add("embedding_multiplier", "scale", x, factor=2.0)
    for i in range(layers):
        b = f"blocks.{i}"
        n = layer_norm(f"{b}.norm_1", x)
        q, k, v = (linear(f"{b}.{role}", n, width, width) for role in "qkv")
        q = add(f"{b}.q.scale", "scale", q, factor=(width // heads) ** -0.5)
        if rotary:
            turned = {"heads": heads, "rotated": width // heads // 2, "base": 100.0, "start": 0}
            q, k = (add(f"{b}.{role}.rotary", "rotary", y, **turned) for role, y in (("q", q), ("k", k)))
        p = add(f"{b}.softmax", "softmax", add(f"{b}.scores", "scores", q, k, heads=heads))
        o = linear(f"{b}.o", add(f"{b}.attend", "attend", p, v), width, width)
        x, before = add(f"{b}.attention", "add", x, o), x
        f = layer_norm(f"{b}.norm_2", before if parallel else x)
        if activation or not fused:
            f = linear(f"{b}.ffn.in", f, width, 4 * width)
            if activation == "gelu_erf":
                f = add(f"{b}.ffn.gelu", "gelu", f, form="erf")
            elif activation:
                f = add(f"{b}.ffn.{activation}", activation, f)
            f = linear(f"{b}.ffn.out", f, 4 * width, width)
        else:
            f = linear(f"{b}.ffn.w", f, width, width)
        if scaled:
            f = add(f"{b}.ffn.alpha", "gain", f, tensors={"w": np.float64(1 / rng.uniform(0.7, 1.3))})
            x = add(f"{b}.ffn.beta", "gain", x, tensors={"w": np.float64(rng.uniform(0.7, 1.3))})
        x = add(f"{b}.ffn", "add", x, f)
    if not every_position:
        x = add("last", "rows", x, start=length - 1, stop=length)
    x = layer_norm("final_norm", x)
    x = add("logits", "linear", x, tensors={"w": rng.normal(0, 1, (width, vocabulary))})
    x = add("logit_multiplier", "scale", x, factor=3.0)
    return Program.of(length, nodes, weights, x)


RUNGS = {
    "softmax-only": {},
    "softmax-only, scaled": {"scaled": True},
    "relu": {"activation": "relu"},
    "layer norm, relu, scaled": {"norm": True, "activation": "relu", "scaled": True},
    "layer norm, gelu": {"norm": True, "activation": "gelu"},
    "softmax-only, frozen norm": {"frozen_norm": True, "fused": False},
    "rotary, parallel, layer norm, gelu": {"rotary": True, "parallel": True, "norm": True, "activation": "gelu_erf"},
    "rotary, parallel, softmax-only": {"rotary": True, "parallel": True},
}


def random_ids(program: Program, seed: int = 0) -> np.ndarray:
    table = next(node for node in program.graph.nodes if node.op == "embedding").weights[0]
    return np.random.default_rng(seed).integers(program.graph.weight_shapes[table][0], size=program.graph.length)


def random_encoder(
    *, pooling: str = "mean", pooler: str = "none", classes: int = 0, layers: int = 1, length: int = 6, seed: int = 0
) -> Program:
    """A BERT-shaped encoder (Devlin et al. 2019) of width 8: norms after attention and FFN, and no mask."""
    rng = np.random.default_rng(seed)
    nodes: list[Node] = []
    weights: dict[str, np.ndarray] = {}
    width, inner, heads, vocabulary = 8, 12, 2, 11

    def add(name: str, op: str, *inputs: str, tensors: dict[str, np.ndarray] | None = None, **attrs: object) -> str:
        for role, array in (tensors or {}).items():
            weights[f"{name}.{role}"] = array
        nodes.append(Node(name, op, inputs, tuple(f"{name}.{role}" for role in tensors or {}), attrs))
        return name

    def linear(name: str, x: str, k: int, m: int) -> str:
        return add(name, "linear", x, tensors={"w": rng.normal(0, k**-0.5, (k, m)), "b": rng.normal(0, 0.1, m)})

    def norm(name: str, x: str) -> str:
        x = add(name, "layer_norm", x, eps=1e-12)
        x = add(f"{name}.gain", "gain", x, tensors={"w": rng.uniform(0.5, 1.5, width)})
        return add(f"{name}.bias", "bias", x, tensors={"w": rng.normal(0, 0.1, width)})

    x = add("embedding", "embedding", "ids", tensors={"table": rng.normal(0, 0.5, (vocabulary, width))})
    x = norm("embedding.norm", add("positions", "bias", x, tensors={"w": rng.normal(0, 0.5, (length, width))}))
    for i in range(layers):
        b = f"blocks.{i}"
        q, k, v = (linear(f"{b}.{role}", x, width, width) for role in "qkv")
        q = add(f"{b}.q.scale", "scale", q, factor=(width // heads) ** -0.5)
        p = add(f"{b}.scores", "scores", q, k, heads=heads, mask="none")
        p = add(f"{b}.softmax", "softmax", p, mask="none")
        o = linear(f"{b}.o", add(f"{b}.attend", "attend", p, v, mask="none"), width, width)
        x = norm(f"{b}.norm_1", add(f"{b}.attention", "add", x, o))
        f = add(f"{b}.ffn.gelu", "gelu", linear(f"{b}.ffn.in", x, width, inner), form="erf")
        x = norm(f"{b}.norm_2", add(f"{b}.ffn", "add", x, linear(f"{b}.ffn.out", f, inner, width)))
    x = add("pooled", "mean_rows", x) if pooling == "mean" else add("pooled", "rows", x, start=0, stop=1)
    if pooler != "none":
        x = add(f"pooler.{pooler}", pooler, linear("pooler", x, width, width))
    if classes:
        x = linear("logits", x, width, classes)
    return Program.of(length, nodes, weights, x)


ENCODERS = {
    "mean": {},
    "first token": {"pooling": "first"},
    "classifier with tanh": {"pooling": "first", "pooler": "tanh", "classes": 3},
    "classifier with relu": {"pooling": "first", "pooler": "relu", "classes": 2},
}
