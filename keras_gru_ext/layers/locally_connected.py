"""Convolutions whose kernels differ from place to place, which Keras 3 no longer has."""

import math

import keras
from keras import ops

from keras_gru_ext.errors import ArgumentError


class _LocallyConnected(keras.layers.Layer):
    """A convolution over `rank` axes, without padding, with a kernel and a bias for every place of its output.

    Source: `layers/local.py` of Keras 2.2.4; `implementation=1` of tf.keras.
    """

    rank = 0

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = filters
        self.kernel_size = self._sizes(kernel_size, "kernel_size")
        self.strides = self._sizes(strides, "strides")
        if padding != "valid":
            raise ArgumentError(f"{type(self).__name__} {self.name!r} has padding={padding!r}. Expected 'valid'.")
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2)

    def _sizes(self, value, argument):
        sizes = (value,) * self.rank if isinstance(value, int) else tuple(value)
        if len(sizes) != self.rank or any(not isinstance(size, int) or size < 1 for size in sizes):
            raise ArgumentError(
                f"`{argument}` of {type(self).__name__} {self.name!r} must be {self.rank} positive integers. "
                f"Received: {value!r}."
            )
        return sizes

    def _outputs(self, spatial):
        """How many places the output has along each axis."""
        if None in spatial:
            raise ArgumentError(
                f"{type(self).__name__} {self.name!r} needs to know the sizes of its input. Received: {tuple(spatial)}."
            )
        return tuple((size - k) // s + 1 for size, k, s in zip(spatial, self.kernel_size, self.strides, strict=True))

    def _split(self, shape):
        """The spatial sizes and the channels of an input shape."""
        first = self.data_format == "channels_first"
        return (tuple(shape[2:]), shape[1]) if first else (tuple(shape[1:-1]), shape[-1])

    def build(self, input_shape):
        """Creates the kernel (places, window times channels, filters) and the bias (*places, filters)."""
        spatial, channels = self._split(input_shape)
        places = self._outputs(spatial)
        self.kernel = self.add_weight(
            shape=(math.prod(places), math.prod(self.kernel_size) * channels, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(*places, self.filters),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )

    def call(self, inputs):
        spatial, _ = self._split(inputs.shape)
        places = self._outputs(spatial)
        first = self.data_format == "channels_first"
        patches = inputs
        # Each axis in turn becomes two: the place, and the position in the window there.
        for axis, (count, size, stride) in enumerate(zip(places, self.kernel_size, self.strides, strict=True)):
            steps = [[place * stride + position for position in range(size)] for place in range(count)]
            patches = ops.take(
                patches, ops.convert_to_tensor(steps, dtype="int32"), axis=(2 if first else 1) + 2 * axis
            )
        begin = 2 if first else 1
        of_places = [begin + 2 * axis for axis in range(self.rank)]
        in_window = [axis + 1 for axis in of_places]
        channels = [1] if first else [len(patches.shape) - 1]
        features = [*channels, *in_window] if first else [*in_window, *channels]
        patches = ops.transpose(patches, [0, *of_places, *features])
        patches = ops.reshape(patches, (-1, *self.kernel.shape[:2]))
        outputs = ops.einsum("bpf,pfn->bpn", patches, ops.convert_to_tensor(self.kernel))
        outputs = ops.reshape(outputs, (-1, *places, self.filters))
        if first:
            outputs = ops.moveaxis(outputs, -1, 1)
        if self.bias is not None:
            # Legacy versions read the numbers of the bias in their order, whatever the shape.
            shape = (1, self.filters, *places) if first else (1, *places, self.filters)
            outputs = outputs + ops.reshape(self.bias, shape)
        return self.activation(outputs)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the outputs."""
        places = self._outputs(self._split(input_shape)[0])
        first = self.data_format == "channels_first"
        return (input_shape[0], self.filters, *places) if first else (input_shape[0], *places, self.filters)

    def get_config(self):
        """Returns every constructor argument, as plain JSON values."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": "valid",
            "data_format": self.data_format,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class LocallyConnected1D(_LocallyConnected):
    """A convolution over sequences (B, T, C) with a kernel for every step, as Keras 1 to tf.keras 2.15 had it.

    Args:
        filters: Number of outputs at each place.
        kernel_size: Length of the window, or its sizes along each axis.
        strides: Distance of the windows.
        padding: `"valid"` only, as in those versions.
        data_format: `"channels_last"` or `"channels_first"`.
        **kwargs: `activation`, `use_bias`, initializers, regularizers and constraints as in `keras.layers.Conv1D`.

    Raises:
        ArgumentError: for bad arguments, and for inputs whose size is not known.
    """

    rank = 1


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class LocallyConnected2D(_LocallyConnected):
    """A convolution over pictures (B, H, W, C) with a kernel for every place; arguments as in `LocallyConnected1D`."""

    rank = 2
