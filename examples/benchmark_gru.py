"""Times this package's GRU beside Keras' own, `torch.nn.GRU` and ONNX Runtime, in one run.

    python examples/benchmark_gru.py --json benchmark.json --plot benchmark.png
    python examples/benchmark_gru.py --backend torch --shape 32,100,64,128 --maths classic --quick

A model is two stacked GRU layers and a Dense head. For every shape (batch, time, features, units), both kinds of maths,
with and without a mask and recurrent dropout, the contestants get the same weights, and are timed only once their
predictions and their weights after a training step agree. (With recurrent dropout the contestants draw other masks, so
there a step has to agree with this package's own layer stepped cell by cell.) Each backend has a process of its own, in
which the contestants take turns. What is not installed is left out and named. Nothing else should run on the machine.
Beside the times stands what the matrix products alone would take at the rate of a large one, which takes turns too.

One layer that is called directly, a Bidirectional, and one step at a time are timed as well (`benchmark_layer.py`),
against the better of one and two threads of ONNX Runtime.

Needs one or more of torch, tensorflow and jax; onnx and onnxruntime for the comparison with ONNX Runtime, and
matplotlib for the plot.
"""

import argparse
import contextlib
import gc
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from rich.console import Console
from rich.table import Table

BACKENDS = ("torch", "tensorflow", "jax")
SHAPES = ((1, 200, 64, 256), (32, 100, 64, 128), (64, 250, 128, 256), (128, 50, 128, 512))
MATHS = {
    "classic": {"reset_after": False, "recurrent_activation": "hard_sigmoid"},
    "reset-after": {"reset_after": True, "recurrent_activation": "sigmoid"},
}
# Name -> whether the inputs are masked, the rate of recurrent dropout.
VARIANTS = {
    "plain": (False, 0.0),
    "mask": (True, 0.0),
    "recurrent dropout": (False, 0.2),
    "mask + recurrent dropout": (True, 0.2),
}
DEVICES = {
    "cpu": {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"},
    # Products of float32 in float32: TensorFloat-32 would keep ten bits of them, and the contestants would not agree.
    "gpu": {"NVIDIA_TF32_OVERRIDE": "0", "JAX_DEFAULT_MATMUL_PRECISION": "highest"},
}
"""What makes a process compute there."""
LENGTHS = (50, 500, 5000)
MEMORY_SHAPES = SHAPES[2:3]
OURS, OUR_CELL = "keras_gru_ext", "keras_gru_ext, fused=False"
KERAS, KERAS_XLA = "Keras", "Keras, jit_compile=True"
TORCH, ONNX = "torch.nn.GRU", "ONNX Runtime"
MATMUL = "a large matrix product"
HEAD = 8  # units of the Dense layer

console = Console(stderr=True)


def main(argv=None):
    options = parse_options(argv)
    if options.worker:
        result = WORKERS[options.worker](options)
        options.json.write_text(json.dumps(result), encoding="utf-8")
        return
    results = {"machine": describe_machine(options.device), "versions": installed_versions(), "backends": {}}
    for backend in options.backend:
        if importlib.util.find_spec(backend) is None:
            console.print(f"{backend} is not installed: left out")
            continue
        measured = {}
        if "models" in options.parts:
            measured["times"] = run_worker("times", backend, options)
        if "layers" in options.parts and not options.quick:
            measured["layers"] = run_worker("layers", backend, options)
        if "models" in options.parts and not options.quick:
            if options.device == "cpu":  # The memory of a process, which says nothing of a GPU's.
                cases = itertools.product(MEMORY_SHAPES, options.maths, (OURS, KERAS))
                measured["memory"] = [
                    run_worker("memory", backend, options, shape=[shape], maths=[maths], contestant=who)
                    for shape, maths, who in cases
                ]
            measured["lengths"] = run_worker("lengths", backend, options)
        results["backends"][backend] = measured
        if options.json:
            options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    report(results)
    if options.plot and "models" in options.parts:
        plot(results, options.plot)
    if options.plot and "layers" in options.parts and not options.quick:
        from benchmark_layer import plot as plot_layers

        plot_layers(results, options.plot.with_stem(f"{options.plot.stem}_layer"))


def parse_options(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--shape", nargs="+", type=parse_shape, default=SHAPES, help="batch,time,features,units")
    parser.add_argument("--maths", nargs="+", choices=MATHS, default=list(MATHS))
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--rounds", type=int, default=7, help="how often each contestant is timed, at least")
    parser.add_argument("--quick", action="store_true", help="leave out memory, long sequences and single layers")
    parser.add_argument("--parts", nargs="+", choices=["models", "layers"], default=["models", "layers"])
    parser.add_argument("--json", type=pathlib.Path, help="file for all figures")
    parser.add_argument("--plot", type=pathlib.Path, help="picture of the ratios, PNG")
    # What the script passes to the processes that it starts.
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def parse_shape(text):
    shape = tuple(int(size) for size in text.split(","))
    if len(shape) != 4 or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"a shape is four sizes, as in 32,100,64,128; got {text!r}")
    return shape


def run_worker(worker, backend, options, **changes):
    """Runs a part of the benchmark in a fresh process with that backend and returns what it measured."""
    given = {**vars(options), **changes}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "result.json"
        command = [sys.executable, __file__, "--worker", worker, "--json", path, "--backend", backend]
        command += ["--device", given["device"], "--rounds", str(given["rounds"])]
        command += ["--shape", *(",".join(map(str, shape)) for shape in given["shape"])]
        command += ["--maths", *given["maths"], "--variant", *given["variant"]]
        command += ["--contestant", changes["contestant"]] if "contestant" in changes else []
        # Large arrays go back to the system when they are freed, so that peak memory means something.
        memory = {"MALLOC_MMAP_THRESHOLD_": "65536"} if worker == "memory" else {}
        environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", **DEVICES[given["device"]], **memory}
        environment = {**os.environ, **environment}
        subprocess.run(command, env=environment, check=True)
        return json.loads(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------------- the contestants


def build_model(who, shape, maths, masked, recurrent_dropout):
    """Two stacked layers and a head, compiled; (B, T, F) -> (B, HEAD)."""
    import keras

    import keras_gru_ext

    _, _, features, units = shape
    settings = dict(MATHS[maths])
    if who in (OURS, OUR_CELL):
        make = keras_gru_ext.GRU
        settings["fused"] = who == OURS
    elif who == TORCH:
        return compiled(torch_model(features, units), jit_compile=False)
    else:
        make = keras.layers.GRU
        if settings["recurrent_activation"] == "hard_sigmoid":  # In Keras 3 the name means another function.
            settings["recurrent_activation"] = keras_gru_ext.legacy_hard_sigmoid
    settings |= {"recurrent_dropout": recurrent_dropout, "seed": 1}
    model = keras.Sequential(
        [
            keras.Input((None, features)),
            *([keras.layers.Masking()] if masked else []),
            make(units, return_sequences=True, **settings),
            make(units, **settings),
            keras.layers.Dense(HEAD),
        ]
    )
    return compiled(model, jit_compile=True if who == KERAS_XLA else "auto")


def compiled(model, jit_compile):
    import keras

    # A first step that is large, so that weights after it differ by far more than they are rounded.
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=jit_compile)
    return model


def torch_model(features, units):
    """The same model on `torch.nn.GRU`, inside Keras like the others, so that only the layer differs."""
    import keras
    import torch

    class TorchGRU(keras.layers.TorchModuleWrapper):
        def __init__(self, features, last):
            super().__init__(torch.nn.GRU(features, units, batch_first=True))
            self.last = last

        def call(self, x, training=None):
            outputs, _ = super().call(x, training=training)
            return outputs[:, -1] if self.last else outputs

        def compute_output_shape(self, shape):
            return (shape[0], units) if self.last else (*shape[:-1], units)

    layers = [TorchGRU(features, last=False), TorchGRU(units, last=True), keras.layers.Dense(HEAD)]
    return keras.Sequential([keras.Input((None, features)), *layers])


def torch_order(kernel):
    """Keras' z | r | candidate along the last axis -> PyTorch's r | z | candidate along the first."""
    z, r, g = np.split(kernel, 3, -1)
    return np.concatenate([r, z, g], -1).T.copy()


def set_weights(model, who, weights):
    """Gives a model the weights in Keras' order: kernel, recurrent kernel and bias of each layer, then the head's."""
    if who != TORCH:
        model.set_weights(weights)
        return
    import torch

    for layer, (kernel, recurrent_kernel, bias) in zip(model.layers, (weights[:3], weights[3:6]), strict=False):
        arrays = (kernel, recurrent_kernel, *bias)
        for parameter, array in zip(layer.module.parameters(), arrays, strict=True):
            parameter.data.copy_(torch.from_numpy(torch_order(array)))
    model.layers[-1].set_weights(weights[6:])


def get_weights(model, who):
    if who != TORCH:
        return model.get_weights()
    weights = []
    for layer in model.layers[:2]:
        thirds = [np.split(p.detach().cpu().numpy().T, 3, -1) for p in layer.module.parameters()]
        kernel, recurrent_kernel, *biases = (np.concatenate([z, r, g], -1) for r, z, g in thirds)
        weights += [kernel, recurrent_kernel, np.stack(biases)]
    return weights + model.layers[-1].get_weights()


def onnx_runtime(model, x):
    """The model's predictions for x as ONNX Runtime makes them from the exported file."""
    import onnxruntime

    import keras_gru_ext

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        keras_gru_ext.to_onnx(model, path, check=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [name] = [node.name for node in session.get_inputs()]
    return lambda: session.run(None, {name: x})[0]


def make_data(shape, masked):
    """Inputs, right-padded with zeros if masked, and targets."""
    batch, steps, features, _ = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, steps, features), "float32")
    if masked:
        lengths = rng.integers(steps // 2, steps + 1, batch)
        x[np.arange(steps) >= lengths[:, None]] = 0
    return x, rng.standard_normal((batch, HEAD), "float32")


# --------------------------------------------------------------------------------------------------------- the timing


def time_backend(options):
    [backend] = options.backend
    measured = {"sgemm_gflops": sgemm_rate(), "cases": []}
    peers = [KERAS]
    if backend == "tensorflow":
        peers.append(KERAS_XLA)
    if backend == "torch":
        peers.append(TORCH)
    if options.device == "cpu":
        missing = [package for package in ("onnx", "onnxruntime") if importlib.util.find_spec(package) is None]
        if missing:
            console.print(f"{ONNX} is left out: {' and '.join(missing)} not installed")
        else:
            peers.append(ONNX)
    for shape, maths, variant in itertools.product(options.shape, options.maths, options.variant):
        console.print(f"{backend}: {shape}, {maths}, {variant}")
        measured["cases"].append(time_case(peers, shape, maths, variant, options.rounds))
        gc.collect()
    return measured


def time_case(peers, shape, maths, variant, rounds):
    """Times predictions and training steps of all contestants of a case that take part in it."""
    masked, recurrent_dropout = VARIANTS[variant]
    if maths == "classic" or masked or recurrent_dropout:
        peers = [who for who in peers if who != TORCH]  # which computes none of these
    if variant != "plain":
        peers = [who for who in peers if who != KERAS_XLA]  # whose compilation takes most of the time
    x, y = make_data(shape, masked)
    models = {who: build_model(who, shape, maths, masked, recurrent_dropout) for who in (OURS, *peers) if who != ONNX}
    rng = np.random.default_rng(1)
    # Biases that are not zero, and weights of the usual size: a recurrence that amplifies would amplify rounding.
    weights = [
        array + 0.1 / math.sqrt(len(array)) * rng.standard_normal(array.shape, "float32")
        for array in models[OURS].get_weights()
    ]
    for who, model in models.items():
        set_weights(model, who, weights)

    calls = {who: (lambda model=model: model.predict_on_batch(x)) for who, model in models.items()}
    case = {"shape": shape, "maths": maths, "variant": variant, "products": {}}
    predictions = {who: [call()] for who, call in calls.items()}
    case["prediction_error"] = check_agreement(shape, predictions)
    # Dropout takes no part in predictions, so with it they are not timed a second time.
    case["predict"] = {} if recurrent_dropout else take_turns_with_matmul(calls, rounds, case, "predict")
    if ONNX in peers and not recurrent_dropout:
        # Not in turn with the others: its threads go on spinning for a while after each call, and slow them down.
        call = onnx_runtime(models[OURS], x)
        case["prediction_error"] |= check_agreement(shape, {OURS: predictions[OURS], ONNX: [call()]})
        case["predict"] |= take_turns({ONNX: call}, rounds)

    calls = {who: (lambda model=model: model.train_on_batch(x, y)) for who, model in models.items()}
    for call in calls.values():
        call()
    checked = models
    if recurrent_dropout:
        checked = {OURS: models[OURS], OUR_CELL: build_model(OUR_CELL, shape, maths, masked, recurrent_dropout)}
        set_weights(checked[OUR_CELL], OUR_CELL, weights)
        checked[OUR_CELL].train_on_batch(x, y)
    steps = {
        who: [after - before for after, before in zip(get_weights(model, who), weights, strict=True)]
        for who, model in checked.items()
    }
    case["training_error"] = check_agreement(shape, steps)
    for model in models.values():
        model.optimizer.learning_rate = 1e-3
    case["train"] = take_turns_with_matmul(calls, rounds, case, "train")
    return case


def check_agreement(shape, arrays):
    """Returns each contestant's largest difference from ours, relative to the largest number; raises if any is off."""
    ours = arrays[OURS]
    errors = {}
    for who, theirs in arrays.items():
        if who == OURS:
            continue
        errors[who] = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours, theirs, strict=True))
        if not errors[who] < 1e-3:
            raise SystemExit(f"{who} and {OURS} differ by {errors[who]:.1e} at {shape}: nothing was timed")
    return errors


def take_turns(calls, rounds, seconds=0.05, most=4.0, pause=0.0):
    """Milliseconds per call of each contestant: the median and the quartiles over rounds in which all take turns.

    A sample takes `seconds` or one call, after a `pause` and a call that is not timed. Who has spent `most` seconds
    sits the rounds after the third out.
    """
    repeats = {}
    for who, call in calls.items():
        started = time.perf_counter()
        call()
        repeats[who] = max(1, math.ceil(seconds / (time.perf_counter() - started)))
    samples = {who: [] for who in calls}
    order = list(calls)
    for _ in range(rounds):
        order.append(order.pop(0))
        for who in order:
            if len(samples[who]) >= 3 and sum(samples[who]) * repeats[who] > most * 1000:
                continue
            if pause:
                time.sleep(pause)
                calls[who]()
            started = time.perf_counter()
            for _ in range(repeats[who]):
                calls[who]()
            samples[who].append((time.perf_counter() - started) * 1000 / repeats[who])
    return {who: [round(float(q), 3) for q in np.percentile(taken, (25, 50, 75))] for who, taken in samples.items()}


def take_turns_with_matmul(calls, rounds, case, what):
    """What `take_turns` returns; enters in the case what its products would take at the rate of a large product.

    That product takes turns with the contestants, as the rate of a shared machine changes from minute to minute.
    """
    times = take_turns({**calls, MATMUL: large_matmul(1024)}, rounds)
    _, large, _ = times.pop(MATMUL)
    case["products"][what] = round(large * flops(case["shape"], what) / (2 * 1024**3), 3)
    return times


def flops(shape, what):
    """Floating-point operations in the matrix products of the two GRU layers, the same for every contestant."""
    batch, steps, features, units = shape
    by_row = 2 * 3 * units * batch * steps
    forward = by_row * (features + units) + by_row * (units + units)
    if what == "predict":
        return forward
    # The backward pass has two products for each: the gradients of the weights and of what they are multiplied with.
    return 3 * forward - by_row * features  # The model's own inputs need no gradient.


def large_matmul(size):
    import keras

    x = keras.ops.convert_to_tensor(np.random.default_rng(0).standard_normal((size, size), "float32"))
    return lambda: keras.ops.convert_to_numpy(keras.ops.matmul(x, x)[:1, :1])


def sgemm_rate(size=2048):
    """GFLOP/s of a large float32 matrix product in the framework in use."""
    times = take_turns({MATMUL: large_matmul(size)}, 9)[MATMUL]
    return round(2 * size**3 / times[1] / 1e6, 1)


def time_lengths(options):
    """Milliseconds per time step of training, over the length of the sequences."""
    rows = []
    for maths, steps in itertools.product(options.maths, LENGTHS):
        shape = (32, steps, 64, 128)
        x, y = make_data(shape, masked=False)
        model = build_model(OURS, shape, maths, False, 0.0)
        model.train_on_batch(x, y)
        [_, step, _] = take_turns({OURS: lambda model=model, x=x, y=y: model.train_on_batch(x, y)}, 3)[OURS]
        rows.append({"maths": maths, "steps": steps, "ms_per_step": step / steps})
    return rows


def time_single_layers(options):
    from benchmark_layer import time_layers

    with_onnx = options.device == "cpu" and all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))
    return time_layers({name: MATHS[name] for name in options.maths}, take_turns, options.rounds, with_onnx)


def measure_memory(options):
    """Megabytes that a training step needs beyond what is held between steps."""
    [shape], [maths], who = options.shape, options.maths, options.contestant
    x, y = make_data(shape, masked=False)
    model = build_model(who, shape, maths, False, 0.0)
    for _ in range(2):
        model.train_on_batch(x, y)
    gc.collect()
    held = reset_peak_memory()
    model.train_on_batch(x, y)
    return {"shape": shape, "maths": maths, "who": who, "megabytes": round(peak_memory() - held, 1)}


def reset_peak_memory():
    """Makes the current memory of this process, in MB, its peak, and returns it."""
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return process_memory("VmRSS")


def peak_memory():
    return process_memory("VmHWM")


def process_memory(field):
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


WORKERS = {
    "times": time_backend,
    "memory": measure_memory,
    "lengths": time_lengths,
    "layers": time_single_layers,
}
"""What a process of its own measures."""


# --------------------------------------------------------------------------------------------------------- the report


def describe_machine(device):
    processor = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    if device == "gpu":
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        device = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.platform(), "device": device}


def installed_versions():
    names = ("keras", "torch", "tensorflow", "tensorflow-cpu", "jax", "onnxruntime", "numpy")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def ratios(backend_results):
    """(maths, what, peer) -> the peer's time over ours in every case: above 1, ours is faster."""
    found = {}
    for case in backend_results["times"]["cases"]:
        for what in ("predict", "train"):
            times = {who: quartiles[1] for who, quartiles in case[what].items()}
            for peer in times.keys() - {OURS}:
                found.setdefault((case["maths"], what, peer), []).append(times[peer] / times[OURS])
    return dict(sorted(found.items()))


def shares(cases):
    """(shape, what) -> the share that matrix products have in our time and in Keras', the medians over the cases."""
    found = {}
    for case in cases:
        for what, products in case["products"].items():
            pair = [products / case[what][who][1] for who in (OURS, KERAS)]
            found.setdefault((tuple(case["shape"]), what), []).append(pair)
    return {key: [statistics.median(share) for share in zip(*pairs, strict=True)] for key, pairs in found.items()}


def report(results):
    """Prints every median with its quartiles, the ratios, and their geometric means."""
    screen = Console(width=150)
    screen.print(", ".join(f"{name} {version}" for name, version in results["versions"].items()))
    screen.print("{processor}, {cores} cores, {system}, {device}".format(**results["machine"]))
    for backend, measured in results["backends"].items():
        if "layers" in measured:
            from benchmark_layer import tables

            print(*tables(backend, measured["layers"]), sep="\n")
        if "times" not in measured:
            continue
        times = measured["times"]
        table = Table(
            title=f"{backend}: milliseconds, median (quartiles); a float32 matmul runs at "
            f"{times['sgemm_gflops']} GFLOP/s"
        )
        columns = ("batch, time, features, units", "maths", "variant", "", "products", OURS, "peer", "", "ratio")
        for column in columns:
            table.add_column(column)
        for case in times["cases"]:
            for what in ("predict", "train"):
                for peer in case[what].keys() - {OURS}:
                    ours, theirs = case[what][OURS], case[what][peer]
                    row = (str(tuple(case["shape"])), case["maths"], case["variant"], what)
                    row += (f"{case['products'][what]:.1f}", spread(ours), peer, spread(theirs))
                    table.add_row(*row, f"{theirs[1] / ours[1]:.2f}")
        screen.print(table)
        screen.print("products: what the matrix products of the case take at the rate of a large one")
        for (maths, what, peer), values in ratios(measured).items():
            mean = statistics.geometric_mean(values)
            span = f"{min(values):.2f} to {max(values):.2f}"
            screen.print(f"{backend}, {maths}, {what}: {mean:.2f} times as fast as {peer} ({span})")
        for (shape, what), (ours, keras) in shares(times["cases"]).items():
            screen.print(f"{backend}, {shape}, {what}: products are {ours:.0%} of {OURS}'s time, {keras:.0%} of Keras'")
        for row in measured.get("memory", []):
            screen.print("{shape}, {maths}, {who}: {megabytes} MB more while training a step".format(**row))
        for row in measured.get("lengths", []):
            screen.print("{maths}: {ms_per_step:.3f} ms per time step in training at T = {steps}".format(**row))


def spread(quartiles):
    low, median, high = quartiles
    return f"{median:.1f} ({low:.1f} - {high:.1f})"


def plot(results, path):
    """Draws, for each backend, how many times faster than each peer every case runs, and the geometric means."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(results["backends"]), figsize=(4.2 * len(results["backends"]), 4.6), sharey=True, squeeze=False
    )
    for axis, (backend, measured) in zip(axes[0], results["backends"].items(), strict=True):
        found = ratios(measured)
        for x, ((maths, what, _), values) in enumerate(found.items()):
            colour = {"classic": "#1b6ca8", "reset-after": "#d1793b"}[maths]
            offsets = np.linspace(-0.18, 0.18, len(values))
            axis.scatter(x + offsets, values, s=14, color=colour, alpha=0.5, marker="o" if what == "train" else "^")
            axis.hlines(statistics.geometric_mean(values), x - 0.3, x + 0.3, color=colour, linewidth=2.5)
        axis.axhline(1, color="black", linewidth=0.8)
        labels = [f"{peer}\n{maths}, {what}" for maths, what, peer in found]
        axis.set_xticks(range(len(found)), labels, rotation=90, fontsize=8)
        axis.set_title(backend)
        axis.set_yscale("log")
        axis.set_yticks([0.125, 0.25, 0.5, 1, 2, 4, 8, 16], ["1/8", "1/4", "1/2", "1", "2", "4", "8", "16"])
        axis.grid(axis="y", alpha=0.3)
    axes[0][0].set_ylabel("peer's time / keras_gru_ext's")
    figure.suptitle("Above 1: keras_gru_ext is faster. Bars: geometric means over shapes and variants.", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
