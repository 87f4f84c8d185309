"""A trained classifier of images in one file that needs NumPy alone; `stridenet export` wrote it.

As a module, called digits.py here:

    import digits

    digits.predict(images)                     # the class index of each image, its place in digits.CLASSES
    digits.predict_proba(images)               # the probability of each class
    digits.predict(digits.read("seven.png"))   # a picture file

As a command:

    python digits.py seven.png

Images are uint8, or float in 0..1, of shape (N, C, H, W), (N, H, W) for one channel, or one image without N. Read on:
first comes the network, layer by layer, then how a picture file becomes an image, then the command. At the end stand
the layers of this model and its weights.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stridenet.interop.predictor_pictures import fit_image, read_png, triangles

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]
    Pair = tuple[int, int]
    Layers = list[tuple[str, list[str], dict[str, Any]]]


# Images in, classes out


def predict(images: ArrayLike) -> Array:
    """The class index of each image, int64 (N,)."""
    return scores(images).argmax(axis=1)


def predict_proba(images: ArrayLike) -> Array:
    """The probability of each class, (N, K): exp(score) / sum of exp(score)."""
    return softmax(scores(images).T).T


def read(path: str | os.PathLike[str]) -> Array:
    """The picture in an 8-bit PNG file as an image (1, C, H, W) like those of the training, float32 in 0..1.

    It is brought to their size, and to their framing where the model has one: light on dark becomes dark on light.
    ValueError if it is no such file.
    """
    channels, H, W = IMAGE_SHAPE
    if channels not in (1, 3):
        raise ValueError(f"expected a model of 1 or 3 channels, got {channels}; use predict with arrays")
    return fit_image(read_png(Path(path), channels), (H, W), FRAMING)[None]


def scores(images: ArrayLike) -> Array:
    """The network's scores (N, K), some images at a time, so that memory stays small."""
    x = _checked(images)  # (N, C, H, W)
    result = np.empty((len(x), len(CLASSES)), np.float32)
    step = max(1, 200_000 // math.prod(x.shape[1:]))
    for start in range(0, len(x), step):
        batch = np.ascontiguousarray(np.moveaxis(x[start : start + step], 0, -1))  # (C, H, W, N)
        result[start : start + step] = run(LAYERS, _unit(batch)).T
    return result


def _checked(images: ArrayLike) -> Array:
    """The images as (N, C, H, W), uint8 or float32 in 0..1; ValueError if they are others."""
    x = np.asarray(images)
    if x.dtype.kind == "f":
        if x.size and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(f"expected float images in 0..1, got {x.min():g} to {x.max():g}; scale 0..255 by 1/255")
        x = x.astype(np.float32)
    elif x.dtype != np.uint8:
        raise ValueError(f"expected images of type uint8, or float in 0..1, got {x.dtype}; read() takes a path")
    C, H, W = IMAGE_SHAPE
    if x.shape == (H, W) or (x.ndim == 3 and C > 1):
        x = x[None]  # one image
    if x.ndim == 3 and C == 1:
        x = x[:, None]  # without channels
    if x.ndim != 4 or x.shape[1] != C or not (ANY_SIZE or x.shape[2:] == (H, W)) or not min(x.shape[1:]):
        raise ValueError(f"expected images of shape (N, {C}, {H}, {W}), got {np.shape(images)}")
    return x


def _unit(x: Array) -> Array:
    """Bytes 0..255 as float32 0..1; float32 as it is."""
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x


# The network: one function for each kind of layer. Arrays are (C, H, W, N) or (D, N): channels, rows, columns or
# features first, the images of a batch last, so that a convolution is one product of two matrices.


def run(layers: Layers, x: Array) -> Array:
    """x after one layer after another; each has a kind, the names of its weights, and settings."""
    for kind, names, settings in layers:
        x = KINDS[kind](x, *(WEIGHTS[name] for name in names), **settings)
    return x


def windows(x: Array, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Array:
    """Every window of R x S pixels of x (C, H, W, N), as a view (C, P, Q, N, R, S): nothing is copied."""
    extent = tuple(d * (size - 1) + 1 for size, d in zip(kernel, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]


def pad(x: Array, *, padding: tuple[Pair, Pair], value: float = 0.0) -> Array:
    """`value` around each image of x (C, H, W, N); padding is ((top, bottom), (left, right))."""
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value) if np.any(padding) else x


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    groups: int,
) -> Array:
    """K kernels slide over x (groups * C, H, W, N), each gives one map of y (K, P, Q, N).

    y[k, p, q] = bias[k] + the sum over c, r, s of weight[k, c, r, s] * x[c, p + r, q + s], with a stride of 1. The
    pixels under the kernel at each place become a column, so that all these sums are one product of matrices. With
    several groups each kernel sees the channels of its own group.
    """
    K, C, R, S = weight.shape
    view = windows(pad(x, padding=padding), (R, S), stride, dilation)  # (groups * C, P, Q, N, R, S)
    _, P, Q, N = view.shape[:4]
    columns = view.reshape(groups, C, P, Q, N, R, S).transpose(0, 1, 5, 6, 2, 3, 4)
    columns = columns.reshape(groups, C * R * S, P * Q * N)  # here the pixels are copied
    y = (weight.reshape(groups, K // groups, C * R * S) @ columns).reshape(K, P, Q, N)
    return y if bias is None else y + bias[:, None, None, None]


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Each of K outputs is a weighted sum of all D inputs: (D, N) to (K, N)."""
    y = weight @ x
    return y if bias is None else y + bias[:, None]


def max_pool2d(x: Array, *, kernel: Pair, stride: Pair, padding: tuple[Pair, Pair]) -> Array:
    """The largest pixel of each window, (C, H, W, N) to (C, P, Q, N)."""
    return windows(pad(x, padding=padding, value=-np.inf), kernel, stride).max(axis=(-2, -1))


def avg_pool2d(
    x: Array,
    *,
    kernel: Pair,
    stride: Pair,
    padding: tuple[Pair, Pair],
    overhang: tuple[Pair, Pair],
    count_include_pad: bool,
) -> Array:
    """The mean of each window, (C, H, W, N) to (C, P, Q, N); what hangs over the padding never counts as a pixel."""
    ones = np.ones((1, *x.shape[1:3], 1), np.float32)
    ones = pad(pad(ones, padding=padding, value=float(count_include_pad)), padding=overhang)
    x = pad(pad(x, padding=padding), padding=overhang)
    return windows(x, kernel, stride).sum(axis=(-2, -1)) / windows(ones, kernel, stride).sum(axis=(-2, -1))


def global_avg_pool2d(x: Array) -> Array:
    """The mean of each channel, (C, H, W, N) to (C, 1, 1, N)."""
    return x.mean(axis=(1, 2), keepdims=True)


def subsampling2d(x: Array, coefficient: Array, bias: Array, *, kernel: Pair) -> Array:
    """The sum of each window times a coefficient, plus a bias, for each channel: the pooling of 1998."""
    sums = windows(x, kernel, kernel).sum(axis=(-2, -1))
    return sums * coefficient[:, None, None, None] + bias[:, None, None, None]


def batch_norm2d(x: Array, weight: Array, bias: Array, mean: Array, variance: Array, *, eps: float) -> Array:
    """Each channel brought to the mean 0 and the variance 1 of the training images, then scaled and shifted."""
    scale = weight / np.sqrt(variance + eps)
    return (x - mean[:, None, None, None]) * scale[:, None, None, None] + bias[:, None, None, None]


def residual(x: Array, *, body: Layers, shortcut: Layers) -> Array:
    """The sum of two ways; a shortcut without layers is x itself."""
    return run(body, x) + run(shortcut, x)


def zero_pad_shortcut(x: Array, *, out_channels: int, stride: Pair) -> Array:
    """Every `stride`-th pixel, and channels of zeros behind the others."""
    taken = x[:, :: stride[0], :: stride[1]]
    return np.concatenate([taken, np.zeros((out_channels - len(x), *taken.shape[1:]), x.dtype)])


def flatten(x: Array) -> Array:
    """(C, H, W, N) to (D, N): channel by channel, row by row."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def relu(x: Array) -> Array:
    """What is negative becomes 0."""
    return np.maximum(x, 0)


def leaky_relu(x: Array, *, negative_slope: float) -> Array:
    """What is negative becomes smaller."""
    return np.where(x > 0, x, negative_slope * x)


def tanh(x: Array) -> Array:
    """Everything comes between -1 and 1."""
    return np.tanh(x)


def scaled_tanh(x: Array) -> Array:
    """1.7159 tanh(2 x / 3), which takes 1 to 1 and -1 to -1 (LeCun et al. 1998)."""
    return 1.7159 * np.tanh(2 / 3 * x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that nothing overflows."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def softmax(x: Array) -> Array:
    """exp(x) / sum of exp(x) over the classes; the largest is taken off first, so that nothing overflows."""
    y = np.exp(x - x.max(axis=0))
    return y / y.sum(axis=0)


def log_softmax(x: Array) -> Array:
    """The logarithm of `softmax`."""
    shifted = x - x.max(axis=0)
    return shifted - np.log(np.exp(shifted).sum(axis=0))


def rbf(x: Array, codes: Array) -> Array:
    """Minus the squared distance of x (D, N) from the code of each class, (K, N) (LeCun et al. 1998)."""
    return -np.square(x - codes[:, :, None]).sum(axis=1)


def normalize(x: Array, *, mean: list[float], std: list[float]) -> Array:
    """(x - mean) / std, channel by channel."""
    shape = -1, 1, 1, 1
    return (x - np.array(mean, np.float32).reshape(shape)) / np.array(std, np.float32).reshape(shape)


def subtract_mean(x: Array, mean: Array) -> Array:
    """x minus the mean image (C, H, W)."""
    return x - mean[..., None]


def resize(x: Array, *, size: Pair) -> Array:
    """The images in another size, by bilinear interpolation: (C, H, W, N) to (C, *size, N)."""
    rows, columns = (triangles(n, m, 0, n).astype(x.dtype) for n, m in zip(x.shape[1:3], size, strict=True))
    return x if x.shape[1:3] == size else np.einsum("ph,qw,chwn->cpqn", rows, columns, x, optimize=True)


KINDS = {
    "AvgPool2d": avg_pool2d,
    "BatchNorm2d": batch_norm2d,
    "Conv2d": conv2d,
    "Flatten": flatten,
    "GlobalAvgPool2d": global_avg_pool2d,
    "LeakyReLU": leaky_relu,
    "Linear": linear,
    "LogSoftmax": log_softmax,
    "MaxPool2d": max_pool2d,
    "Normalize": normalize,
    "Pad": pad,
    "RBF": rbf,
    "ReLU": relu,
    "Residual": residual,
    "Resize": resize,
    "ScaledTanh": scaled_tanh,
    "Sigmoid": sigmoid,
    "Softmax": softmax,
    "SubtractMean": subtract_mean,
    "Tanh": tanh,
    "TrainableSubsampling2d": subsampling2d,
    "ZeroPadShortcut": zero_pad_shortcut,
}


# The command


def main(words: list[str]) -> int:
    """Print the class of each picture file; 0 done, 1 a file could not be read, 2 wrong usage."""
    name = Path(__file__).name
    usage = f"usage: python {name} PICTURE.png ...\n"
    if "--help" in words or "-h" in words:
        _write(sys.stdout, f"{usage}\nPrint the class of 8-bit PNG files, and its probability.\n{ABOUT}\n")
        return 0
    options = [word for word in words if word.startswith("-")]
    if options or not words:
        got = f"the option {_printable(options[0])}" if options else "none"
        _write(sys.stderr, f"{usage}{name}: expected PNG files, got {got}\n")
        return 2
    width, failed = max(len(_printable(path)) for path in words), 0
    for path in words:
        try:
            line = f"{_printable(path):<{width}}  {_answer(read(path))}\n"
        except (ValueError, OSError, MemoryError) as error:
            _write(sys.stderr, f"{name}: {_printable(path)}: {_printable(str(error))}\n")
            failed = 1
        else:
            _write(sys.stdout, line)
    return failed


def _answer(image: Array) -> str:
    """The classes of one image, the most probable first, or what there is to say instead."""
    if image.min() == image.max():
        return "nothing to recognise: the picture has one tone"
    probabilities: list[float] = predict_proba(image)[0].tolist()
    (share, best), *others = sorted(zip(probabilities, map(_printable, CLASSES), strict=True), reverse=True)
    return f"{best}  {share:.1%}" + (f"   (then {others[0][1]}, {others[0][0]:.1%})" if others else "")


def _printable(text: str) -> str:
    """A name as a terminal may show it: control and undecodable characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _write(stream: Any, text: str) -> None:
    """Write to a stream that may be closed, or unable to show every character."""
    if stream is not None:
        stream.reconfigure(errors="backslashreplace")
        try:
            stream.write(text)
            stream.flush()
        except BrokenPipeError:  # who reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def unpack(text: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    """The weights by name, from the text at the end: five characters, digits to the base 85, are one float32."""
    alphabet = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    digit = np.zeros(256, np.uint32)
    digit[list(alphabet)] = np.arange(85)
    digits = digit[np.frombuffer(text.replace("\n", "").encode(), np.uint8)].reshape(-1, 5)
    numbers = (digits @ 85 ** np.arange(4, -1, -1, dtype=np.uint32)).view(np.float32)
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(numbers, ends[:-1]) if shapes else []
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


# The model: what it is, its classes, the (C, H, W) of its images, whether they may have another size because they are
# resized, its framing (background, extent), its layers, the shape of each weight, and all weights as text

ABOUT = ""
CLASSES: tuple[str, ...] = ()
IMAGE_SHAPE = (1, 1, 1)
ANY_SIZE = False
FRAMING: tuple[float, float] | None = None
LAYERS: Layers = []
SHAPES: dict[str, tuple[int, ...]] = {}
DATA = ""

# The end of the model

WEIGHTS = unpack(DATA, SHAPES)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
