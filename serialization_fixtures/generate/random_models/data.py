"""Inputs and weights of random models."""
import numpy

BATCH = 3
SCALES = (0.5, 0.25, 0.1)


def inputs(described, float64=False):
    """The array that a plan describes: batch 3, with masked steps (zeros) in every place that matters.

    "words within" and "padded within" have masked steps in sequences of sequences, others in the outer ones alone.
    """
    random = numpy.random.RandomState(described["seed"])
    shape = (BATCH,) + tuple(described["shape"])
    if described["kind"] == "words within":
        array = random.randint(1, described["words"], size=shape)
        array[masks_within(random, shape)] = 0
        return array.astype("int32")
    if described["kind"] == "words":
        array = random.randint(1, described["words"], size=shape)
        array[masks(random, shape[1])] = 0
        return array.astype("int32")
    array = random.normal(size=shape)
    if described["kind"] == "padded within":
        array[masks_within(random, shape[:-1])] = 0.0
    if described["kind"] == "padded":
        array[masks(random, shape[1])] = 0.0
    return array.astype("float64" if float64 else "float32")


def masks(random, steps):
    """Which steps are masked: the first row at its start, the others at their end, inside, everywhere or nowhere."""
    masked = numpy.zeros((BATCH, steps), bool)
    masked[0, : 1 + random.randint(2)] = True
    for row in range(1, BATCH):
        pattern = random.randint(4)
        if pattern == 0:
            masked[row, -1 - random.randint(max(1, steps // 2)):] = True
        elif pattern == 1:
            masked[row] = random.uniform(size=steps) < 0.4
        elif pattern == 2:
            masked[row] = random.uniform() < 0.5
    return masked


def masks_within(random, shape):
    """Which steps of sequences in sequences are masked: the same places, in whole sequences or in none."""
    masked = numpy.zeros(shape, bool).reshape((-1, shape[-1]))
    for row in masked:
        pattern = random.randint(6)
        if pattern in (0, 1):
            row[-1 - random.randint(max(1, len(row) // 2)):] = True
        elif pattern == 2:
            row[: 1 + random.randint(max(1, len(row) // 2))] = True
        elif pattern == 3:
            row[:] = random.uniform(size=len(row)) < 0.4
        elif pattern == 4:
            row[:] = True
    return masked.reshape(shape)


def weights(library, model, seed, scale):
    """Random values for all weights: biases, too, and variances that are above zero."""
    random = numpy.random.RandomState(seed)
    values = []
    for weight in model.weights:
        dtype = library.dtype(weight)
        if not dtype.startswith("float"):
            continue
        array = random.normal(size=library.shape(weight), scale=scale)
        # Keras 1 calls the moving variance running_std.
        if "variance" in weight.name or "running_std" in weight.name:
            array = 0.3 + numpy.abs(array)
        elif "gamma" in weight.name:
            array = 1.0 + array
        values.append((weight, array.astype(dtype.replace("_ref", ""))))
    return values


def nudged(values, seed):
    """The same weights, each moved by about what rounding does to it."""
    signs = numpy.random.RandomState(seed)
    return [
        (weight, array * (1 + 2 * numpy.finfo(array.dtype).eps * signs.choice([-1, 1], size=array.shape)).astype(array.dtype))
        for weight, array in values
    ]
