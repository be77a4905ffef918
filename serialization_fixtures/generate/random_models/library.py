"""The old library of this interpreter, behind one face: standalone Keras 1 or 2, tf.keras, or tf_keras."""
import importlib
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


class Library(object):
    """An old Keras by its name: `keras`, `tf.keras` or `tf_keras`."""

    def __init__(self, name):
        self.keras, self.tensorflow = _imported(name)
        version = self.tensorflow.__version__ if name == "tf.keras" else self.keras.__version__
        self.producer = "%s-%s" % (name, version)
        self.version = tuple(int(part) for part in version.split(".")[:2])
        self.is_keras_1 = name == "keras" and self.version[0] == 1
        self.is_tensorflow_2 = name == "tf_keras" or (name == "tf.keras" and self.version[0] == 2)
        # Keras 2.12 and later write archives.
        self.has_archives = self.is_tensorflow_2 and self.version >= (2, 12)
        backend = self.keras.backend
        self.shape, self.dtype = backend.int_shape, backend.dtype
        self.get, self.set = backend.batch_get_value, backend.batch_set_value
        # What old libraries raise when they do not like a layer, an argument or a shape.
        self.REFUSALS = (
            TypeError, ValueError, AttributeError, IndexError, KeyError, AssertionError, NotImplementedError,
            ZeroDivisionError, RuntimeError, ImportError) + self._tensorflow_errors()
        self._spare_notes()

    def _tensorflow_errors(self):
        return (self.tensorflow.errors.OpError,)

    def _spare_notes(self):
        """Keeps TensorFlow from noting for its messages where each operation was made, which takes as long as to make it."""
        deprecation = importlib.import_module("tensorflow.python.util.deprecation")
        deprecation._PRINT_DEPRECATION_WARNINGS = False
        if not self.is_tensorflow_2 and not self.is_keras_1:
            stack = importlib.import_module("tensorflow.python.util.tf_stack")
            stack.extract_stack = lambda *_, **__: []

    def reset(self, float64=False):
        """Forgets all models; layers' names start from one again."""
        self.keras.backend.clear_session()
        self.keras.backend.set_floatx("float64" if float64 else "float32")
        if not self.is_tensorflow_2:
            self.keras.backend.set_session(self._session())

    def _session(self):
        """A session that runs graphs as they are: to optimize one takes longer than to run it a few times."""
        v1 = getattr(getattr(self.tensorflow, "compat", None), "v1", self.tensorflow)
        options = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        options.graph_options.optimizer_options.opt_level = v1.OptimizerOptions.L0
        if hasattr(options.graph_options.rewrite_options, "disable_meta_optimizer"):
            options.graph_options.rewrite_options.disable_meta_optimizer = True
        return v1.Session(config=options)

    def make(self, path, options):
        """An object by the path of its class."""
        if self.is_keras_1:
            import keras_1_words
            path, options = keras_1_words.translated(path, options)
        module, name = path.split(".")
        return getattr(getattr(self.keras, module), name)(**options)

    def input(self, shape, batch=None, **options):
        if batch:
            return self.keras.layers.Input(batch_shape=(batch,) + tuple(shape), **options)
        return self.keras.layers.Input(shape=shape, **options)

    def operate(self, name, tensors):
        if not self.is_tensorflow_2 or self.version < (2, 4):
            raise NotImplementedError("layers of operations")
        return OPERATIONS[name](self.tensorflow, *tensors)


OPERATIONS = {
    "last step": lambda tf, x: x[:, -1],
    "turn around": lambda tf, x: x[:, ::-1],
    "twice": lambda tf, x: 2.0 * x + 0.5,
    "sum": lambda tf, x, y: x + y,
    "beside": lambda tf, x, y: tf.concat([x, y], axis=-1),
    "mean over time": lambda tf, x: tf.reduce_mean(x, axis=1),
    "as image": lambda tf, x: tf.expand_dims(x, -1),
}


def _imported(name):
    # Keras announces its backend on stderr, and this process talks over its standard streams.
    said, sys.stderr = sys.stderr, open(os.devnull, "w")
    if name == "tf_keras":
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        tensorflow = importlib.import_module("tensorflow")
        keras = tensorflow.keras if name == "tf.keras" else importlib.import_module(name)
        keras.layers, keras.models, keras.backend  # TensorFlow loads some of them only when asked.
    finally:
        sys.stderr.close()
        sys.stderr = said
    log = getattr(getattr(tensorflow, "compat", tensorflow), "v1", tensorflow).logging
    log.set_verbosity(log.ERROR)
    return keras, tensorflow
