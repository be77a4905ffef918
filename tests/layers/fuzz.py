"""Random layers against an implementation in NumPy that shares no code with them, and each path against the other.

    python -m tests.layers.fuzz --cases 2000 --seed 0        on the backend that KERAS_BACKEND names
    python -m tests.layers.fuzz --case '{"units": 2}'        one case again; what it leaves out is the simplest

A case is a dict from the names of `OPTIONS` to values. Its weights, inputs and masks come from NumPy and depend on the
case alone, so that every backend that agrees with the oracle agrees with the others. A case that fails is made as
simple as it can be while it still fails, and printed.
"""

import argparse
import collections
import json
import sys

import keras
import numpy as np

from keras_gru_ext import GRU, Bidirectional, GRUCell
from tests.helpers import BACKEND, to_numpy
from tests.layers import numpy_gru

ACTIVATIONS = ["tanh", *(name for name in numpy_gru.ACTIVATIONS if name != "tanh")]
FLAG = [False, True]
OPTIONS = {
    "way": ["layer", "cell", "forward and backward"],
    "mode": ["eager", "graph"],
    "policy": ["float32", "float64", "mixed_bfloat16", "mixed_float16"],
    "units": [1, 2, 3, 4, 5, 6],
    "features": [1, 2, 3, 4, 5],
    "batch": [1, 2, 3, 4, 0],
    "time": [1, 2, 3, 4, 5, 6, 7, 8, 10, 13],
    "activation": ACTIVATIONS,
    "recurrent_activation": ["sigmoid", *(name for name in ACTIVATIONS if name != "sigmoid")],
    "use_bias": FLAG,
    "reset_after": FLAG,
    "return_sequences": FLAG,
    "return_state": FLAG,
    "go_backwards": FLAG,
    "unroll": FLAG,
    "time_major": FLAG,
    "zero_output_for_mask": FLAG,
    "stateful": FLAG,
    "mask": ["none", "right", "left", "holes", "nothing"],
    "initial_state": FLAG,
    "implementation": [2, 1, 0],
    "dropout": [0.0, 0.3, 1.0],
    "recurrent_dropout": [0.0, 0.4, 1.0],
    "training": FLAG,
    "merge_mode": ["concat", "sum", "mul", "ave"],
    "scale": [0.5, 1.0, 0.1, 2.0],
    "seed": list(range(1000)),
}
"""Name -> values, the simplest first."""

CELL_ARGUMENTS = ("units", "activation", "recurrent_activation", "use_bias", "reset_after")
LOOP_ARGUMENTS = ("return_sequences", "return_state", "go_backwards", "unroll")
OWN_ARGUMENTS = ("time_major", "zero_output_for_mask", "stateful", "implementation", "dropout", "recurrent_dropout")


def random_case(rng):
    """Draws a case."""
    case = {}
    for name, values in OPTIONS.items():
        rare = name in ("way", "mode", "policy", "unroll", "time_major", "stateful", "dropout", "recurrent_dropout")
        case[name] = values[0] if rare and rng.random() < 0.6 else values[rng.integers(len(values))]
    return settled(case)


def settled(case):
    """The case with what it leaves out, and without what does not go together or has no meaning."""
    case = {name: case.get(name, values[0]) for name, values in OPTIONS.items()}
    if case["way"] != "layer":  # What Keras' own loop does with a mask differs from backend to backend.
        for name in ("time_major", "stateful", "dropout", "recurrent_dropout", "initial_state", "return_state"):
            case[name] = OPTIONS[name][0]
    if case["way"] == "cell":
        case["mask"] = "none"
    if case["way"] == "forward and backward":
        case["go_backwards"] = False
    if case["stateful"]:
        case["mode"] = "eager"
    if case["policy"] == "float64" and not _has_float64():
        case["policy"] = "float32"
    if case["mask"] == "none":
        case["zero_output_for_mask"] = False
    return case


def _has_float64():
    """Keras' NumPy backend rounds to float32; JAX has it where the process asked for it."""
    if BACKEND != "jax":
        return BACKEND != "numpy"
    import jax

    return jax.config.jax_enable_x64


class Problem:
    """The layer of a case, and what goes into it; arrays are of float64, rounded to what the layer computes in."""

    def __init__(self, case):
        self.case = case
        rng = np.random.default_rng(case["seed"])
        batch, time, features, units = (case[name] for name in ("batch", "time", "features", "units"))
        self.dtype = case["policy"].removeprefix("mixed_")
        shapes = [(features, 3 * units), (units, 3 * units)]
        if case["use_bias"]:
            shapes.append((2, 3 * units) if case["reset_after"] else (3 * units,))
        self.directions = 2 if case["way"] == "forward and backward" else 1
        self.calls = 2 if case["stateful"] else 1
        self.weights = [
            self.rounded(case["scale"] * rng.standard_normal(shape)) for _ in range(self.directions) for shape in shapes
        ]
        self.inputs = [self.rounded(rng.standard_normal((batch, time, features))) for _ in range(self.calls)]
        self.state = self.rounded(rng.standard_normal((batch, units))) if case["initial_state"] else None
        self.mask = _mask(case["mask"], batch, time, rng)
        self.cotangents = rng.standard_normal((batch, time, 2 * units)), rng.standard_normal((batch, units))

    def rounded(self, array):
        return to_numpy(keras.ops.cast(keras.ops.convert_to_tensor(array), self.dtype)).astype("float64")

    def layer(self, fused):
        """The layer, built and with its weights."""
        case = self.case
        arguments = {name: case[name] for name in (*CELL_ARGUMENTS, *LOOP_ARGUMENTS, *OWN_ARGUMENTS)}
        for name in ("activation", "recurrent_activation"):
            if arguments[name] == "hard_sigmoid of Keras 3":
                arguments[name] = keras.activations.hard_sigmoid
        if case["way"] == "cell":
            cell = GRUCell(**{name: arguments[name] for name in CELL_ARGUMENTS}, dtype=case["policy"])
            layer = keras.layers.RNN(cell, **{name: case[name] for name in LOOP_ARGUMENTS}, dtype=case["policy"])
        else:
            layer = GRU(**arguments, fused=fused, seed=case["seed"], dtype=case["policy"])
        if case["way"] == "forward and backward":
            zero = case["zero_output_for_mask"]
            layer = Bidirectional(layer, merge_mode=case["merge_mode"], zero_output_for_mask=zero, dtype=case["policy"])
        layer.build(self.to_layout(self.inputs[0]).shape)
        layer.set_weights(self.weights)
        return layer

    def to_layout(self, array):
        return np.swapaxes(array, 0, 1) if self.case["time_major"] else array

    def options(self):
        """What the layer is called with beside its inputs."""
        options = {"training": self.case["training"]}
        if self.mask is not None:
            options["mask"] = keras.ops.convert_to_tensor(self.to_layout(self.mask))
        if self.state is not None:
            options["initial_state"] = keras.ops.cast(self.state, self.dtype)
        return options

    def results(self, fused):
        """What the layer returns in its last call, as a list of arrays, and the dropout masks of each call."""
        layer, drawn = self.layer(fused), []
        if self.case["way"] == "layer":
            layer.cell.draw_dropout_mask = _noting(layer.cell.draw_dropout_mask, drawn)
        for x in self.inputs:
            drawn.append([])
            x = keras.ops.cast(self.to_layout(x), self.dtype)
            returned = _call(layer, x, self.options(), self.case["mode"] if not any(self.rates()) else "eager")
        returned = [to_numpy(r).astype("float64") for r in keras.tree.flatten(returned)]
        if self.case["return_sequences"]:
            returned[0] = self.to_layout(returned[0])
        return returned, [self.factors(masks) for masks in drawn]

    def rates(self):
        """The rates of the dropouts that act, those of the inputs and of the state; zero where one does not."""
        names = ("dropout", "recurrent_dropout")
        return [rate * (self.case["training"] and rate < 1.0) for rate in map(self.case.get, names)]

    def factors(self, masks):
        """The masks that were drawn as the oracle takes them: those of the inputs, those of the state."""
        masks = iter(masks)
        factors = [next(masks) if rate else None for rate in self.rates()]
        return [
            None if m is None else np.stack([to_numpy(part) for part in (m if isinstance(m, list) else [m] * 3)])
            for m in factors
        ]

    def oracle(self, factors, weights=None, inputs=None, state=None):
        """What the layer must return in its last call."""
        case = self.case
        weights = self.weights if weights is None else weights
        state = self.state if state is None else state
        forward, backward = weights[: len(weights) // self.directions], weights[len(weights) // self.directions :]
        for x, dropped in zip(inputs or self.inputs, factors or [(None, None)] * self.calls, strict=True):
            outputs, last = numpy_gru.run(case, forward, x, self.mask, state, *dropped)
            state = state if case["initial_state"] else last
        if backward:
            other, _ = numpy_gru.run({**case, "go_backwards": True}, backward, x, self.mask)
            outputs = _merge(outputs, other, case)
        wanted = [outputs if case["return_sequences"] else outputs[:, -1]]
        return [*wanted, last] if case["return_state"] else wanted


def _noting(draw, drawn):
    def noted(x, rate):
        drawn[-1].append(draw(x, rate))
        return drawn[-1][-1]

    return noted


def _mask(kind, batch, time, rng):
    lengths = rng.integers(0, time + 1, (batch, 1))
    return {
        "none": None,
        "right": np.arange(time) < lengths,
        "left": np.arange(time) >= time - lengths,
        "holes": rng.random((batch, time)) > 0.4,
        "nothing": np.zeros((batch, time), bool),
    }[kind]


def _merge(outputs, other, case):
    if case["return_sequences"]:
        other = other[:, ::-1]
    else:
        outputs, other = outputs[:, -1:], other[:, -1:]
    return {
        "concat": lambda: np.concatenate([outputs, other], -1),
        "sum": lambda: outputs + other,
        "mul": lambda: outputs * other,
        "ave": lambda: (outputs + other) / 2,
    }[case["merge_mode"]]()


def _call(layer, x, options, mode):
    def call(x):
        return layer(x, **options)

    if mode == "graph" and BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(call, autograph=False)(x)
    if mode == "graph" and BACKEND == "jax":
        import jax

        return jax.jit(call)(x)
    return call(x)


def _gradients(problem, layer):
    """Gradients of the results times the problem's cotangents, by the inputs and the weights."""
    x = keras.ops.cast(problem.to_layout(problem.inputs[0]), problem.dtype)
    options = problem.options()

    def loss(returned):
        shares = zip(_cotangents(problem), keras.tree.flatten(returned), strict=True)
        return sum(keras.ops.sum(y * keras.ops.cast(d, problem.dtype)) for d, y in shares)

    weights = [w.value for w in layer.trainable_variables]
    if BACKEND == "torch":
        import torch

        x.requires_grad_()
        gradients = torch.autograd.grad(loss(layer(x, **options)), [x, *weights])
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(layer(x, **options))
        gradients = tape.gradient(value, [x, *weights])
    else:
        import jax

        others = [v.value for v in layer.non_trainable_variables]
        d_x, d_weights = jax.grad(
            lambda x, weights: loss(layer.stateless_call(weights, others, x, **options)[0]), (0, 1)
        )(x, weights)
        gradients = [d_x, *d_weights]
    first, *rest = (to_numpy(g).astype("float64") for g in gradients)
    return [problem.to_layout(first), *rest]


def _cotangents(problem):
    of_outputs, of_state = problem.cotangents
    width = problem.case["units"] * (2 if problem.directions == 2 and problem.case["merge_mode"] == "concat" else 1)
    of_outputs = of_outputs[..., :width]
    first = problem.to_layout(of_outputs) if problem.case["return_sequences"] else of_outputs[:, -1]
    return [first, of_state] if problem.case["return_state"] else [first]


@np.errstate(over="ignore", invalid="ignore")  # The oracle's own, of cases that come out as chaotic.
def fault_of(case):
    """Returns what is wrong with a case, as text, or `None`; "chaotic" where rounding alone changes everything."""
    case = settled(case)
    problem = Problem(case)
    unit = numpy_gru.rounding_unit(case["policy"])
    results, factors = problem.results("auto")
    wanted = problem.oracle(factors)
    allowed = _allowed(problem, unit, lambda *arrays: problem.oracle(factors, *arrays))
    if _is_chaotic(allowed, wanted, problem.dtype):
        return "chaotic"
    if text := _difference(["outputs", "state"], results, wanted, allowed):
        return f"against the oracle: {text}"
    if case["way"] != "cell":
        others, same_factors = problem.results(False)
        pairs = zip(keras.tree.flatten(factors), keras.tree.flatten(same_factors), strict=True)
        if not all(np.array_equal(mine, other) for mine, other in pairs):
            return "the same seed draws other dropout masks with fused=False"
        if text := _difference(["outputs", "state"], others, wanted, allowed):
            return f"fused=False against the oracle: {text}"
    if BACKEND != "numpy" and case["policy"].startswith("float") and not case["stateful"] and not any(problem.rates()):
        return _fault_of_gradients(problem, unit)
    return None


def _fault_of_gradients(problem, unit):
    """Holds the slope of the oracle along a random direction to the gradients of each path."""
    rng = np.random.default_rng(problem.case["seed"] + 1)
    arrays = [problem.inputs[0], *problem.weights]
    direction = [rng.standard_normal(a.shape) for a in arrays]

    def slope(weights, inputs, *_, step=1e-6):
        ends = []
        for sign in (step, -step):
            x, *moved = (a + sign * d for a, d in zip([inputs[0], *weights], direction, strict=True))
            results = problem.oracle(None, moved, [x])
            ends.append(sum((d * y).sum() for d, y in zip(_plain_cotangents(problem), results, strict=True)))
        return [np.array((ends[0] - ends[1]) / (2 * step))]

    [wanted] = slope(problem.weights, problem.inputs)
    [allowed] = _allowed(problem, unit, slope)
    [coarse] = slope(problem.weights, problem.inputs, step=1e-5)
    allowed = allowed + 20 * abs(coarse - wanted) + 1e-7 * (1 + abs(wanted))
    for fused in ("auto", False) if problem.case["way"] != "cell" else ("auto",):
        gradients = _gradients(problem, problem.layer(fused))
        shares = [(g * d).sum() for g, d in zip(gradients, direction, strict=True)]
        # The sum of shares that cancel is only as good as the shares.
        limit = allowed + 100 * unit * sum(np.abs(g * d).sum() for g, d in zip(gradients, direction, strict=True))
        if not limit <= 0.1 * (1 + abs(wanted)):
            return "chaotic"
        if not abs(sum(shares) - wanted) <= limit:
            return (
                f"gradients with fused={fused}: slope {sum(shares):.6g}, by differences {wanted:.6g} (+- {limit:.1g})"
            )
    return None


def _plain_cotangents(problem):
    first, *rest = _cotangents(problem)
    return [problem.to_layout(first) if problem.case["return_sequences"] else first, *rest]


def _allowed(problem, unit, function):
    """How far each result of `function(weights, inputs, state)` may be off: 30 times what rounding arguments does."""
    rng = np.random.default_rng(problem.case["seed"] + 2)
    arrays = (problem.weights, problem.inputs, problem.state)
    exact = function(*arrays)
    moved = [np.zeros(np.shape(y)) for y in exact]
    for _ in range(3):
        shaken = keras.tree.map_structure(
            lambda a: None if a is None else a * (1 + unit * rng.choice([-1, 1], np.shape(a))), arrays
        )
        for m, y, y_0 in zip(moved, function(*shaken), exact, strict=True):
            np.maximum(m, np.abs(y - y_0), out=m)
    steps = problem.case["time"] * problem.calls
    sizes = [1 + np.abs(y).max(initial=0) for y in exact]
    return [30 * m.max(initial=0) + 8 * steps * unit * size for m, size in zip(moved, sizes, strict=True)]


def _is_chaotic(allowed, wanted, dtype):
    largest = {"float16": 6e4}.get(dtype, 1e30)
    return any(
        not np.isfinite(a) or a > 0.3 * (1 + np.abs(y).max(initial=0)) or np.abs(y).max(initial=0) > largest
        for a, y in zip(allowed, wanted, strict=True)
    )


def _difference(names, results, wanted, allowed):
    for name, mine, value, limit in zip(names, results, wanted, allowed, strict=False):
        if mine.shape != value.shape:
            return f"{name} of shape {mine.shape} instead of {value.shape}"
        error = np.abs(mine - value).max(initial=0)
        if not error <= limit:
            return f"{name} off by {error:.2g}, allowed {limit:.1g}"
    return "a result is missing" if len(results) != len(wanted) else None


def checked(case):
    """`fault_of`, with whatever is raised as a fault."""
    keras.utils.clear_session(free_memory=False)
    try:
        return fault_of(case)
    except Exception as error:  # Any exception is what this looks for.
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"


def minimized(case, fault_of=checked):
    """The simplest case that still fails: option by option, each to the simplest value that keeps a fault."""
    case, changed = settled(case), True
    while changed:
        changed = False
        for name, values in OPTIONS.items():
            for value in values[: values.index(case[name])][:12]:
                simpler = settled({**case, name: value})
                if simpler != case and fault_of(simpler) not in (None, "chaotic"):
                    case, changed = simpler, True
                    break
    return case


def told(case):
    """A case as the least that `--case` needs."""
    return json.dumps({name: value for name, value in case.items() if value != OPTIONS[name][0]})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="which cases")
    parser.add_argument("--case", type=json.loads, help="one case instead, as it was printed")
    options = parser.parse_args()
    if options.case is not None:
        print(checked(options.case) or "right")
        return 0
    counts, faults = collections.Counter(), {}
    for i in range(options.cases):
        case = random_case(np.random.default_rng([options.seed, i]))
        fault = checked(case)
        counts["right" if fault is None else fault if fault == "chaotic" else "wrong"] += 1
        if fault not in (None, "chaotic"):
            case = minimized(case)
            if told(case) not in faults:
                faults[told(case)] = checked(case)
                print(f"--case '{told(case)}': {faults[told(case)]}", flush=True)
    print(f"{BACKEND}: {dict(counts)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
