"""The part of `benchmark_gru.py` that times one layer, called directly.

A layer that returns its sequences, beside Keras' own with the same arguments, `torch.nn.GRU`, and ONNX Runtime with one
and with two threads; a Bidirectional around it; and one step at a time (T = 1), as live inference has it, with and
without a kept state. All get the same weights, have to predict the same numbers, and take turns in one process.
"""

import math
import pathlib
import statistics
import tempfile

import numpy as np

SHAPES = (
    (1, 200, 64, 256),
    (1, 100, 64, 128),
    (4, 100, 64, 128),
    (8, 100, 64, 256),
    (16, 100, 64, 256),
    (32, 100, 64, 128),
    (64, 100, 64, 256),
)
BIDIRECTIONAL = ((1, 200, 64, 256), (4, 100, 64, 128), (16, 100, 64, 256), (32, 100, 64, 128))
ONE_STEP = (1, 1, 64, 128)
GROUPS = {"B = 1": (1, 1), "B = 2 to 16": (2, 16), "B = 32 and 64": (17, 64)}
OURS, KERAS, TORCH, ONNX = "keras_gru_ext", "Keras", "torch.nn.GRU", "ONNX Runtime"
PAUSE = 0.02
"""Seconds before each sample: the threads of ONNX Runtime go on spinning for a while after its calls."""


CASES = [
    *(("layer", shape, False) for shape in SHAPES),
    *(("bidirectional", shape, False) for shape in BIDIRECTIONAL),
    *(("one step", ONE_STEP, stateful) for stateful in (False, True)),
]
"""Kind of layer, (batch, time, features, units), whether it is stateful."""


def time_layers(maths, take_turns, rounds, with_onnx, cases=CASES):
    """Returns a row with milliseconds per contestant for each case: the median and the quartiles.

    Args:
        maths: Dict from a name to the arguments of the GRU.
        take_turns: The function of `benchmark_gru.py`.
        rounds: How often each contestant is timed, at least.
        with_onnx: Whether ONNX Runtime takes part.
        cases: As in `CASES`.
    """
    rows = []
    for kind, shape, stateful in cases:
        for name, settings in maths.items():
            x = np.random.default_rng(0).standard_normal(shape[:3], "float32")
            layers = _layers(kind, shape, settings, stateful)
            row = {"kind": kind, "shape": shape, "maths": name, "stateful": stateful}
            calls = {who: _prediction(layer, x) for who, layer in layers.items()}
            if with_onnx and kind != "one step":
                calls |= {f"{ONNX}, {n} thread{'s' * (n > 1)}": _onnx(layers[OURS], x, n) for n in (1, 2)}
            _agree(shape, calls)
            row["predict"] = take_turns(calls, rounds, pause=PAUSE)
            if kind != "one step":
                calls = {who: _training_step(layer, x) for who, layer in layers.items()}
                row["train"] = take_turns(calls, rounds, pause=PAUSE)
            rows.append(row)
    return rows


def _layers(kind, shape, settings, stateful):
    import keras

    import keras_gru_ext

    batch, _, features, units = shape
    theirs = dict(settings)
    if theirs["recurrent_activation"] == "hard_sigmoid":  # In Keras 3 the name means another function.
        theirs["recurrent_activation"] = keras_gru_ext.legacy_hard_sigmoid
    common = {"return_sequences": kind != "one step", "stateful": stateful}
    layers = {OURS: keras_gru_ext.GRU(units, **settings, **common), KERAS: keras.layers.GRU(units, **theirs, **common)}
    if kind == "bidirectional":
        wrappers = {OURS: keras_gru_ext.Bidirectional, KERAS: keras.layers.Bidirectional}
        layers = {who: wrappers[who](layer) for who, layer in layers.items()}
    for layer in layers.values():
        layer.build((batch, None, features))
    rng = np.random.default_rng(1)
    weights = [
        w + 0.1 / math.sqrt(len(w)) * rng.standard_normal(w.shape, "float32") for w in layers[OURS].get_weights()
    ]
    for layer in layers.values():
        layer.set_weights(weights)
    if keras.backend.backend() == "torch" and settings["reset_after"] and not stateful:
        layers[TORCH] = layers[OURS].to_torch().to(layers[OURS].trainable_variables[0].value.device)
    return layers


def _prediction(layer, x):
    """A function that predicts from x and returns the numbers."""
    import keras

    x = keras.ops.convert_to_tensor(x)
    if keras.backend.backend() == "tensorflow":
        return lambda: layer(x).numpy()
    if keras.backend.backend() == "jax":
        import jax

        variables = [[v.value for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables)]
        program = jax.jit(layer.stateless_call)  # A call outside of any program is not how JAX is used.
        return lambda: np.asarray(program(*variables, x)[0])
    import torch

    def predict():
        with torch.no_grad():
            return _outputs(layer(x)).cpu().numpy()

    return predict


def _outputs(result):
    """The outputs without the last state, which a `torch.nn.GRU` returns beside them."""
    return result[0] if isinstance(result, tuple) else result


def _training_step(layer, x):
    """A function that takes the gradients of the sum of the outputs by all weights, and returns those."""
    import keras

    x = keras.ops.convert_to_tensor(x)
    if keras.backend.backend() == "torch":
        import torch

        weights = list(layer.parameters())

        def step():
            for weight in weights:
                weight.grad = None
            _outputs(layer(x)).sum().backward()
            if x.is_cuda:
                torch.cuda.synchronize()
            return [weight.grad for weight in weights]

        return step
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function(autograph=False)
        def gradients():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(x, training=True))
            return tape.gradient(loss, [weight.value for weight in layer.trainable_variables])

        return lambda: [gradient.numpy() for gradient in gradients()]
    import jax

    others = [variable.value for variable in layer.non_trainable_variables]
    weights = [variable.value for variable in layer.trainable_variables]

    def loss(weights):
        return layer.stateless_call(weights, others, x, training=True)[0].sum()

    gradient = jax.jit(jax.grad(loss))
    return lambda: jax.block_until_ready(gradient(weights))


def _onnx(layer, x, threads):
    """A function that predicts from x as ONNX Runtime does with so many threads."""
    import keras
    import onnxruntime

    import keras_gru_ext

    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        keras_gru_ext.to_onnx(model, path, check=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    [name] = [node.name for node in session.get_inputs()]
    return lambda: session.run(None, {name: x})[0]


def _agree(shape, calls):
    """Raises if a contestant's first numbers are not ours."""
    ours = calls[OURS]()
    for who, call in calls.items():
        error = np.abs(call() - ours).max() if who != OURS else 0
        if not error < 1e-4:
            raise SystemExit(f"{who} and {OURS} differ by {error:.1e} at {shape}: nothing was timed")


def ratios(rows):
    """(kind, maths, group of batch sizes, what, peer) -> the peer's times over ours: above 1, ours is faster.

    Of ONNX Runtime's two, the faster one counts.
    """
    found = {}
    for row in rows:
        for what in ("predict", "train"):
            times = {who: quartiles[1] for who, quartiles in row.get(what, {}).items()}
            with_onnx = [times.pop(who) for who in list(times) if who.startswith(ONNX)]
            if with_onnx:
                times[ONNX] = min(with_onnx)
            batch = row["shape"][0]
            [group] = [name for name, (least, most) in GROUPS.items() if least <= batch <= most]
            kind = "one step, stateful" if row["stateful"] else row["kind"]
            for peer in times.keys() - {OURS}:
                found.setdefault((kind, row["maths"], group, what, peer), []).append(times[peer] / times[OURS])
    return dict(sorted(found.items()))


def tables(backend, rows):
    """Lines of Markdown: the ratios by batch size as geometric means, and all medians in milliseconds."""
    yield f"| {backend} | maths | batch | | against | ratio |"
    yield "|---|---|---|---|---|---|"
    for (kind, maths, group, what, peer), values in ratios(rows).items():
        yield f"| {kind} | {maths} | {group} | {what} | {peer} | {statistics.geometric_mean(values):.2f} |"
    yield ""
    peers = list(dict.fromkeys(who for row in rows for what in ("predict", "train") for who in row.get(what, {})))
    yield f"| {backend}, ms | maths | | " + " | ".join(peers) + " |"
    yield "|---|---|---|" + "---|" * len(peers)
    for row in rows:
        for what in ("predict", "train"):
            if what in row:
                times = [f"{row[what][who][1]:.2f}" if who in row[what] else "-" for who in peers]
                kind = "stateful" if row["stateful"] else row["kind"]
                yield f"| {kind} {tuple(row['shape'])} | {row['maths']} | {what} | " + " | ".join(times) + " |"


def plot(results, path):
    """Draws, for each backend, how many times faster than each peer a single layer is, over the batch size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    backends = {backend: measured["layers"] for backend, measured in results["backends"].items()}
    figure, axes = pyplot.subplots(2, len(backends), figsize=(4.2 * len(backends), 7), sharey=True, squeeze=False)
    for column, (backend, rows) in zip(axes.T, backends.items(), strict=True):
        for axis, what in zip(column, ("predict", "train"), strict=True):
            found = {}
            for row in (row for row in rows if row["kind"] == "layer"):
                for (_, maths, _, which, peer), [value] in ratios([row]).items():
                    if which == what:
                        found.setdefault((peer, maths), []).append((row["shape"][0], value))
            for (peer, maths), points in found.items():
                line = "-" if maths == "classic" else "--"
                axis.plot(*zip(*sorted(points), strict=True), line, marker="o", label=f"{peer}, {maths}")
            axis.axhline(1, color="black", linewidth=0.8)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log", base=2)
            axis.set_title(f"{backend}, {what}")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7)
        column[-1].set_xlabel("batch size")
    for axis in axes[:, 0]:
        axis.set_ylabel("peer's time / keras_gru_ext's")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
