"""The TensorFlow operations that are known, as data: functions of `tf` and kinds of nodes of TensorFlow's graph.

Each line says which operation it is and what its arguments are called. Standard library only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Function:
    """A function of TensorFlow.

    Attributes:
        operation: What `build/operations.py` knows it by.
        parameters: The names of its arguments, in order.
        defaults: What an argument that is absent means.
    """

    operation: str
    parameters: tuple[str, ...]
    defaults: Mapping[str, Any]


@dataclass(frozen=True)
class Node:
    """A kind of node of TensorFlow's graph.

    Attributes:
        operation: What `build/operations.py` knows it by.
        inputs: Which argument each input of the node is; one that begins with `*` takes all that the others leave.
        attributes: The node's attributes that are arguments -> the arguments' names.
    """

    operation: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, str]


# The operation, its parameters with their defaults, and the functions that it is; indented lines go on.
_FUNCTIONS = """
abs(x): math.abs
acos(x): math.acos
acosh(x): math.acosh
add(x, y): math.add __operators__.add math.add_v2
add_n(inputs): math.add_n math.accumulate_n
argmax(input, axis=0, output_type="int64", dimension=None): math.argmax compat.v1.argmax
argmin(input, axis=0, output_type="int64", dimension=None): math.argmin compat.v1.argmin
argsort(values, axis=-1, direction="ASCENDING"): argsort
asin(x): math.asin
asinh(x): math.asinh
atan(x): math.atan
atan2(y, x): math.atan2
atanh(x): math.atanh
average_pool(input, ksize, strides, padding, data_format=None): nn.avg_pool1d nn.avg_pool2d nn.avg_pool nn.avg_pool3d
    compat.v1.nn.avg_pool
band_part(input, num_lower, num_upper): linalg.band_part
batch_flatten(x): keras.backend.batch_flatten
batch_gather(params, indices): compat.v1.batch_gather
batch_to_space(input, block_shape, crops): compat.v1.batch_to_space_nd
bias_add(value, bias, data_format=None): nn.bias_add compat.v1.nn.bias_add
binary_cross_entropy(target, output, from_logits=False): keras.backend.binary_crossentropy
broadcast_to(input, shape): broadcast_to
cast(x, dtype): cast
categorical_cross_entropy(target, output, from_logits=False, axis=-1): keras.backend.categorical_crossentropy
ceil(x): math.ceil
clip(t, clip_value_min, clip_value_max): clip_by_value
clip_by_norm(t, clip_norm, axes=None): clip_by_norm
concat(values, axis=0): concat
convolution(input, filters, strides=1, padding="VALID", data_format=None, dilations=None, filter=None, stride=None,
    dilation_rate=None, explicit_paddings=None): nn.conv1d compat.v1.nn.conv1d compat.v1.nn.conv2d nn.conv3d
    compat.v1.nn.conv3d nn.convolution compat.v1.nn.convolution
cos(x): math.cos
cosh(x): math.cosh
count_nonzero(input, axis=None, keepdims=False, dtype="int64"): math.count_nonzero
crelu(features, axis=-1): nn.crelu compat.v1.nn.crelu
ctc_loss(labels, logits, label_length, logit_length, logits_time_major=True, blank_index=None): nn.ctc_loss
cumprod(x, axis=0, exclusive=False, reverse=False): math.cumprod
cumsum(x, axis=0, exclusive=False, reverse=False): math.cumsum
depth_to_space(input, block_size, data_format=None): nn.depth_to_space compat.v1.nn.depth_to_space
depthwise_convolution(input, filter, strides, padding, rate=None, data_format=None, dilations=None):
    compat.v1.nn.depthwise_conv2d compat.v1.nn.depthwise_conv2d_native
diag(diagonal): linalg.diag
diag_part(input): linalg.diag_part
divide(x, y): math.truediv math.divide compat.v1.div realdiv
divide_no_nan(x, y): math.divide_no_nan
elu(features): nn.elu
equal(x, y): math.equal
erf(x): math.erf
erfc(x): math.erfc
erfinv(x): math.erfinv
exp(x): math.exp
expand_dims(input, axis=None, dim=None): expand_dims compat.v1.expand_dims
expm1(x): math.expm1
eye(num_rows, num_columns=None, batch_shape=None, dtype="float32"): eye
extract_patches(images, sizes, strides, rates=None, padding="VALID", dilations=None): image.extract_patches
fill(dims, value): fill
flip_left_right(image): image.flip_left_right
flip_up_down(image): image.flip_up_down
floor(x): math.floor
floor_divide(x, y): math.floordiv compat.v1.floor_div floor_div
floor_mod(x, y): math.floormod math.mod
fused_batch_norm(x, scale, offset, mean=None, variance=None, epsilon=0.001, data_format=None, is_training=True):
    compat.v1.nn.fused_batch_norm
gather(params, indices, axis=None, batch_dims=0): gather compat.v1.gather
gather_nd(params, indices, batch_dims=0): gather_nd compat.v1.gather_nd
gelu(features, approximate=False): nn.gelu
getitem(tensor, slice_spec): __operators__.getitem
grayscale_to_rgb(images): image.grayscale_to_rgb
greater(x, y): math.greater
greater_equal(x, y): math.greater_equal
identity(input): identity convert_to_tensor compat.v1.convert_to_tensor keras.backend.print_tensor
    debugging.check_numerics debugging.assert_all_finite math.real math.conj
ensure_shape(x, shape): ensure_shape
identity_n(input): identity_n
in_top_k(predictions, targets, k): compat.v1.math.in_top_k
is_finite(x): math.is_finite
is_inf(x): math.is_inf
is_nan(x): math.is_nan
l2_loss(t): nn.l2_loss
l2_normalize(x, axis=None, epsilon=1e-12, dim=None): math.l2_normalize nn.l2_normalize compat.v1.math.l2_normalize
leaky_relu(features, alpha=0.2): nn.leaky_relu
less(x, y): math.less
less_equal(x, y): math.less_equal
local_response_normalization(input, depth_radius=5, bias=1, alpha=1, beta=0.5): nn.local_response_normalization
log(x): math.log
log1p(x): math.log1p
log_sigmoid(x): math.log_sigmoid
log_softmax(logits, axis=None, dim=None): nn.log_softmax compat.v1.nn.log_softmax compat.v1.math.log_softmax
logical_and(x, y): math.logical_and
logical_not(x): math.logical_not
logical_or(x, y): math.logical_or
logical_xor(x, y): math.logical_xor
look_up(params, ids): nn.embedding_lookup compat.v1.nn.embedding_lookup
matmul(a, b, transpose_a=False, transpose_b=False, output_type=None): linalg.matmul matmul
matrix_transpose(a): linalg.matrix_transpose linalg.adjoint
max_pool(input, ksize, strides, padding, data_format=None): nn.max_pool1d nn.max_pool2d nn.max_pool nn.max_pool3d
    compat.v1.nn.max_pool
maximum(x, y): math.maximum
minimum(x, y): math.minimum
multiply(x, y): math.multiply
multiply_no_nan(x, y): math.multiply_no_nan
negative(x): math.negative
norm(tensor, ord="euclidean", axis=None, keepdims=None, keep_dims=None): norm compat.v1.norm
normalize(tensor, ord="euclidean", axis=None): linalg.normalize
not_equal(x, y): math.not_equal
one_hot(indices, depth, on_value=None, off_value=None, axis=None, dtype=None): one_hot
ones(shape, dtype="float32"): ones compat.v1.ones
ones_like(input, dtype=None): ones_like compat.v1.ones_like
pad(tensor, paddings, mode="CONSTANT", constant_values=0): pad compat.v1.pad
per_image_standardization(image): image.per_image_standardization
pool(input, window_shape, pooling_type, padding="VALID", dilation_rate=None, strides=None, data_format=None,
    dilations=None): compat.v1.nn.pool
power(x, y): math.pow
range(start, limit=None, delta=1, dtype=None): range
rank(input): rank
reciprocal(x): math.reciprocal
reciprocal_no_nan(x): math.reciprocal_no_nan
reduce_all(input_tensor, axis=None, keepdims=False): math.reduce_all
reduce_any(input_tensor, axis=None, keepdims=False): math.reduce_any
reduce_euclidean_norm(input_tensor, axis=None, keepdims=False): math.reduce_euclidean_norm
reduce_logsumexp(input_tensor, axis=None, keepdims=False): math.reduce_logsumexp
reduce_max(input_tensor, axis=None, keepdims=False): math.reduce_max
reduce_mean(input_tensor, axis=None, keepdims=False): math.reduce_mean
reduce_min(input_tensor, axis=None, keepdims=False): math.reduce_min
reduce_prod(input_tensor, axis=None, keepdims=False): math.reduce_prod
reduce_std(input_tensor, axis=None, keepdims=False): math.reduce_std
reduce_sum(input_tensor, axis=None, keepdims=False): math.reduce_sum
reduce_variance(input_tensor, axis=None, keepdims=False): math.reduce_variance
relu(features): nn.relu
relu6(features): nn.relu6
repeat(input, repeats, axis=None): repeat
reshape(tensor, shape): reshape
resize(images, size, method="bilinear", preserve_aspect_ratio=False, antialias=False): image.resize
resize_bilinear(images, size, align_corners=False, half_pixel_centers=False): compat.v1.image.resize_bilinear
resize_nearest(images, size, align_corners=False, half_pixel_centers=False): compat.v1.image.resize_nearest_neighbor
reverse(tensor, axis): reverse
reverse_sequence(input, seq_lengths, seq_axis=None, batch_axis=None, seq_dim=None, batch_dim=None): reverse_sequence
rgb_to_grayscale(images): image.rgb_to_grayscale
roll(input, shift, axis): roll
round(x): math.round math.rint
rsqrt(x): math.rsqrt
scale(scalar, x): compat.v1.math.scalar_mul
scatter_nd(indices, updates, shape): scatter_nd
selu(features): nn.selu
separable_convolution(input, depthwise_filter, pointwise_filter, strides, padding, rate=None, data_format=None,
    dilations=None): compat.v1.nn.separable_conv2d
sequence_mask(lengths, maxlen=None, dtype="bool"): sequence_mask
shape(input, out_type="int32"): shape compat.v1.shape
sigmoid(x): math.sigmoid
sigmoid_cross_entropy(labels, logits): nn.sigmoid_cross_entropy_with_logits
    compat.v1.nn.sigmoid_cross_entropy_with_logits
sign(x): math.sign
silu(features, beta=1.0): nn.silu
sin(x): math.sin
sinh(x): math.sinh
size(input, out_type="int32"): size compat.v1.size
slice(input_, begin, size): slice
softmax(logits, axis=None, dim=None): nn.softmax compat.v1.nn.softmax compat.v1.math.softmax
softmax_cross_entropy(labels, logits, axis=-1): nn.softmax_cross_entropy_with_logits
    compat.v1.nn.softmax_cross_entropy_with_logits_v2
softplus(features): math.softplus
softsign(features): nn.softsign
sort(values, axis=-1, direction="ASCENDING"): sort
space_to_batch(input, block_shape, paddings): space_to_batch_nd
space_to_depth(input, block_size, data_format=None): nn.space_to_depth compat.v1.nn.space_to_depth
sparse_categorical_cross_entropy(target, output, from_logits=False, axis=-1):
    keras.backend.sparse_categorical_crossentropy
sparse_softmax_cross_entropy(labels, logits): nn.sparse_softmax_cross_entropy_with_logits
    compat.v1.nn.sparse_softmax_cross_entropy_with_logits
split(value, num_or_size_splits, axis=0): split
sqrt(x): math.sqrt
square(x): math.square
squared_difference(x, y): math.squared_difference
squeeze(input, axis=None, squeeze_dims=None): squeeze compat.v1.squeeze
stack(values, axis=0): stack
stop_gradient(input): stop_gradient
strided_slice(input_, begin, end, strides=None, begin_mask=0, end_mask=0, ellipsis_mask=0, new_axis_mask=0,
    shrink_axis_mask=0): strided_slice
subtract(x, y): math.subtract
tan(x): math.tan
tanh(x): math.tanh
tensor_scatter_update(tensor, indices, updates): tensor_scatter_nd_update
tensordot(a, b, axes): tensordot
tile(input, multiples): tile
to_floatx(x): keras.backend.cast_to_floatx
top_k(input, k=1): math.top_k nn.top_k
trace(x): linalg.trace
transpose(a, perm=None): transpose compat.v1.transpose
transposed_convolution(input, filters, output_shape, strides=1, padding="SAME", data_format=None, dilations=None,
    rate=None): nn.conv1d_transpose nn.conv2d_transpose nn.conv3d_transpose nn.atrous_conv2d_transpose
unstack(value, axis=0): unstack
weighted_cross_entropy(labels, logits, pos_weight): nn.weighted_cross_entropy_with_logits
where(condition, x=None, y=None): where compat.v1.where
xdivy(x, y): math.xdivy
xlog1py(x, y): math.xlog1py
xlogy(x, y): math.xlogy
zero_fraction(value, dtype="int64"): math.zero_fraction
zeros(shape, dtype="float32"): zeros compat.v1.zeros
zeros_like(input, dtype=None): zeros_like compat.v1.zeros_like
"""

# The kind of a node, the operation, its inputs in order, and `attribute=argument`; indented lines go on.
_NODES = """
Abs: abs(x)
Acos: acos(x)
Acosh: acosh(x)
Add: add(x, y)
AddN: add_n(*inputs)
AddV2: add(x, y)
All: reduce_all(input_tensor, axis, keep_dims=keepdims)
Any: reduce_any(input_tensor, axis, keep_dims=keepdims)
ArgMax: argmax(input, axis, output_type=output_type)
ArgMin: argmin(input, axis, output_type=output_type)
Asin: asin(x)
Asinh: asinh(x)
Atan: atan(x)
Atan2: atan2(y, x)
Atanh: atanh(x)
AvgPool: average_pool(input, ksize=ksize, strides=strides, padding=padding, data_format=data_format)
AvgPool3D: average_pool(input, ksize=ksize, strides=strides, padding=padding, data_format=data_format)
BatchMatMul: matmul(a, b, adj_x=transpose_a, adj_y=transpose_b)
BatchMatMulV2: matmul(a, b, adj_x=transpose_a, adj_y=transpose_b)
BatchToSpaceND: batch_to_space(input, block_shape, crops)
BiasAdd: bias_add(value, bias, data_format=data_format)
BroadcastTo: broadcast_to(input, shape)
Cast: cast(x, DstT=dtype)
Ceil: ceil(x)
ClipByValue: clip(t, clip_value_min, clip_value_max)
ConcatV2: concat(*values, axis)
Conv2D: convolution(input, filters, strides=strides, padding=padding, data_format=data_format, dilations=dilations,
    explicit_paddings=explicit_paddings)
Conv2DBackpropInput: transposed_convolution(output_shape, filters, input, strides=strides, padding=padding,
    data_format=data_format, dilations=dilations)
Conv3D: convolution(input, filters, strides=strides, padding=padding, data_format=data_format, dilations=dilations)
Conv3DBackpropInputV2: transposed_convolution(output_shape, filters, input, strides=strides, padding=padding,
    data_format=data_format, dilations=dilations)
Cos: cos(x)
Cosh: cosh(x)
Cumprod: cumprod(x, axis, exclusive=exclusive, reverse=reverse)
Cumsum: cumsum(x, axis, exclusive=exclusive, reverse=reverse)
DepthToSpace: depth_to_space(input, block_size=block_size, data_format=data_format)
DepthwiseConv2dNative: depthwise_convolution(input, filter, strides=strides, padding=padding, data_format=data_format,
    dilations=dilations)
Div: divide(x, y)
DivNoNan: divide_no_nan(x, y)
Einsum: einsum(*inputs, equation=equation)
Elu: elu(features)
EnsureShape: ensure_shape(x, shape=shape)
Equal: equal(x, y)
Erf: erf(x)
Erfc: erfc(x)
EuclideanNorm: reduce_euclidean_norm(input_tensor, axis, keep_dims=keepdims)
Exp: exp(x)
ExpandDims: expand_dims(input, axis)
Expm1: expm1(x)
ExtractImagePatches: extract_patches(images, ksizes=sizes, strides=strides, rates=dilations, padding=padding)
Fill: fill(dims, value)
Floor: floor(x)
FloorDiv: floor_divide(x, y)
FloorMod: floor_mod(x, y)
FusedBatchNormV3: fused_batch_norm(x, scale, offset, mean, variance, epsilon=epsilon, data_format=data_format,
    is_training=is_training)
GatherNd: gather_nd(params, indices)
GatherV2: gather(params, indices, axis, batch_dims=batch_dims)
Greater: greater(x, y)
GreaterEqual: greater_equal(x, y)
Identity: identity(input)
InTopKV2: in_top_k(predictions, targets, k)
IsFinite: is_finite(x)
IsInf: is_inf(x)
IsNan: is_nan(x)
L2Loss: l2_loss(t)
LeakyRelu: leaky_relu(features, alpha=alpha)
LRN: local_response_normalization(input, depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta)
Less: less(x, y)
LessEqual: less_equal(x, y)
Log: log(x)
Log1p: log1p(x)
LogSoftmax: log_softmax(logits)
LogicalAnd: logical_and(x, y)
LogicalNot: logical_not(x)
LogicalOr: logical_or(x, y)
MatMul: matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
MatrixBandPart: band_part(input, num_lower, num_upper)
MatrixDiag: diag(diagonal)
MatrixDiagPart: diag_part(input)
Max: reduce_max(input_tensor, axis, keep_dims=keepdims)
MaxPool: max_pool(input, ksize=ksize, strides=strides, padding=padding, data_format=data_format)
MaxPool3D: max_pool(input, ksize=ksize, strides=strides, padding=padding, data_format=data_format)
Maximum: maximum(x, y)
Mean: reduce_mean(input_tensor, axis, keep_dims=keepdims)
Min: reduce_min(input_tensor, axis, keep_dims=keepdims)
Minimum: minimum(x, y)
MirrorPad: pad(tensor, paddings, mode=mode)
Mul: multiply(x, y)
MulNoNan: multiply_no_nan(x, y)
Neg: negative(x)
NotEqual: not_equal(x, y)
OneHot: one_hot(indices, depth, on_value, off_value, axis=axis)
OnesLike: ones_like(input)
Pack: stack(*values, axis=axis)
Pad: pad(tensor, paddings)
PadV2: pad(tensor, paddings, constant_values)
Pow: power(x, y)
Prod: reduce_prod(input_tensor, axis, keep_dims=keepdims)
Range: range(start, limit, delta)
Rank: rank(input)
RealDiv: divide(x, y)
Reciprocal: reciprocal(x)
Relu: relu(features)
Relu6: relu6(features)
Reshape: reshape(tensor, shape)
ResizeBilinear: resize_bilinear(images, size, align_corners=align_corners, half_pixel_centers=half_pixel_centers)
ResizeNearestNeighbor: resize_nearest(images, size, align_corners=align_corners, half_pixel_centers=half_pixel_centers)
ReverseSequence: reverse_sequence(input, seq_lengths, seq_dim=seq_axis, batch_dim=batch_axis)
ReverseV2: reverse(tensor, axis)
Rint: round(x)
Roll: roll(input, shift, axis)
Round: round(x)
Rsqrt: rsqrt(x)
ScatterNd: scatter_nd(indices, updates, shape)
Select: where(condition, x, y)
SelectV2: where(condition, x, y)
Selu: selu(features)
Shape: shape(input)
Sigmoid: sigmoid(x)
Sign: sign(x)
Sin: sin(x)
Sinh: sinh(x)
Size: size(input)
Slice: slice(input_, begin, size)
Softmax: softmax(logits)
Softplus: softplus(features)
Softsign: softsign(features)
SpaceToBatchND: space_to_batch(input, block_shape, paddings)
SpaceToDepth: space_to_depth(input, block_size=block_size, data_format=data_format)
Split: split(axis, value, num_split=num_or_size_splits)
SplitV: split(value, num_or_size_splits, axis)
Sqrt: sqrt(x)
Square: square(x)
SquaredDifference: squared_difference(x, y)
Squeeze: squeeze(input, squeeze_dims=axis)
StopGradient: stop_gradient(input)
StridedSlice: strided_slice(input_, begin, end, strides, begin_mask=begin_mask, end_mask=end_mask,
    ellipsis_mask=ellipsis_mask, new_axis_mask=new_axis_mask, shrink_axis_mask=shrink_axis_mask)
Sub: subtract(x, y)
Sum: reduce_sum(input_tensor, axis, keep_dims=keepdims)
Tan: tan(x)
Tanh: tanh(x)
TensorScatterUpdate: tensor_scatter_update(tensor, indices, updates)
Tile: tile(input, multiples)
TopKV2: top_k(input, k)
Transpose: transpose(a, perm)
Unpack: unstack(value, axis=axis)
Xdivy: xdivy(x, y)
Xlogy: xlogy(x, y)
ZerosLike: zeros_like(input)
"""


def _lines(table: str) -> Iterator[str]:
    return iter(table.strip().replace("\n    ", " ").splitlines())


def _functions() -> Iterator[tuple[str, Function]]:
    for line in _lines(_FUNCTIONS):
        signature, _, names = line.rpartition("): ")
        operation, _, listed = signature.partition("(")
        pairs = [parameter.partition("=") for parameter in listed.split(", ")]
        defaults = {name: ast.literal_eval(value) for name, given, value in pairs if given}
        found = Function(operation, tuple(name for name, _, _ in pairs), MappingProxyType(defaults))
        yield from ((name, found) for name in names.split())


def _nodes() -> Iterator[tuple[str, Node]]:
    for line in _lines(_NODES):
        kind, _, signature = line.rstrip(")").partition(": ")
        operation, _, listed = signature.partition("(")
        pairs = [parameter.partition("=") for parameter in listed.split(", ")]
        attributes = {name: argument for name, given, argument in pairs if given}
        inputs = tuple(name for name, given, _ in pairs if not given)
        yield kind, Node(operation, inputs, MappingProxyType(attributes))


# By the name that tf.keras 2.4 and later wrote, and by the kind that those before wrote.
FUNCTIONS: Mapping[str, Function] = MappingProxyType(dict(_functions()))
NODES: Mapping[str, Node] = MappingProxyType(dict(_nodes()))
