"""3x3 convolutions of stride 1 on a CPU, faster than XLA's own.

Two ways, each where it was measured to be faster (tools/bench_convolution.py; two cores, float32, ratios to XLA's):

  columns    all nine neighbours side by side, one matrix product: 2.2 to 3.3 times as fast for maps of few positions
             with many channels, where XLA's turns the kernel anew in every call
  Winograd   F(2x2, 3x3): 16 products make four outputs where 36 would (Lavin and Gray, "Fast Algorithms for
             Convolutional Neural Networks", 2015, section 4.1): 1.04 to 2.8 times as fast. Its kernel is turned once,
             before the loop of sampling (`layers.for_loops`), and takes 16/9 of the memory beside the other.

Worked in one dimension: of inputs d0 d1 d2 d3 and weights g0 g1 g2, both outputs of F(2, 3) are made of four products,
  m = (d0 - d2) g0,  (d1 + d2) (g0 + g1 + g2)/2,  (d2 - d1) (g0 - g1 + g2)/2,  (d1 - d3) g2
  m0 + m1 + m2 = d0 g0 + d1 g1 + d2 g2        m1 - m2 - m3 = d1 g0 + d2 g1 + d3 g2
and in two the same along the rows, then along the columns.
"""

import math

import jax
import jax.numpy as jnp

Array = jax.Array

FEW_POSITIONS, MANY_CHANNELS = 64, 640
LEAST_CHANNELS = 128
# A wide product pays for what is read and written around it, however large the map; a narrow one while all of it lies
# in the processor's cache. Of many wide maps some are taken after the others, as many together as have so many numbers.
WIDE, MOST_NUMBERS = 512, 1_000_000


def takes_columns(maps: Array, kernel: Array) -> bool:
    """Whether `by_columns` is the faster one: of maps [N, h, w, I] and a kernel [3, 3, I, O]."""
    return kernel.shape[:2] == (3, 3) and _is_small_and_wide(maps, kernel)


def _is_small_and_wide(maps: Array, kernel: Array) -> bool:
    return math.prod(maps.shape[:3]) <= FEW_POSITIONS and min(kernel.shape[-2:]) >= MANY_CHANNELS


def by_columns(maps: Array, kernel: Array) -> Array:
    """[N, h, w, I], [3, 3, I, O] -> [N, h, w, O], a pixel of zeros around the maps."""
    _, height, width, _ = maps.shape
    padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def may_take_winograd(kernel: Array) -> bool:
    """Whether it is worth turning a kernel [3, 3, I, O] for maps of some size."""
    return kernel.shape[:2] == (3, 3) and min(kernel.shape[2:]) >= LEAST_CHANNELS


def takes_winograd(maps: Array, turned: Array) -> bool:
    """Whether `by_winograd` is the fastest one: of maps [N, h, w, I] and a kernel [16, I, O]."""
    pays = min(turned.shape[1:]) >= WIDE or math.prod(maps.shape[:3]) * turned.shape[-1] <= MOST_NUMBERS
    return pays and not _is_small_and_wide(maps, turned)


def turn_for_winograd(kernel: Array) -> Array:
    """[3, 3, I, O] -> [16, I, O]."""

    def along_rows(g: Array) -> Array:
        return jnp.stack([g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]])

    return along_rows(along_rows(kernel).swapaxes(0, 1)).swapaxes(0, 1).reshape(16, *kernel.shape[2:])


@jax.jit  # by which its operations are counted as those of the convolution
def by_winograd(maps: Array, turned: Array) -> Array:
    """[N, h, w, I], a turned kernel [16, I, O] -> [N, h, w, O], a pixel of zeros around the maps."""
    count, most = len(maps), max(1, MOST_NUMBERS // (math.prod(maps.shape[1:3]) * turned.shape[-1]))
    together = max(size for size in range(1, min(count, most) + 1) if count % size == 0)
    if together == count:
        return _at_once(maps, turned)
    parts = maps.reshape(-1, together, *maps.shape[1:])
    return jax.lax.map(lambda part: _at_once(part, turned), parts).reshape(*maps.shape[:3], -1)


def _at_once(maps: Array, turned: Array) -> Array:
    count, height, width, _ = maps.shape
    rows, columns = -(-height // 2), -(-width // 2)  # of 2x2 outputs; of an odd side the last has one too many
    edges = ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0))
    padded = jnp.pad(maps, edges)

    def spread(d: list[Array]) -> list[Array]:
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]

    def gather(m: Array) -> Array:
        return jnp.stack([m[0] + m[1] + m[2], m[1] - m[2] - m[3]])

    by_row = spread([padded[:, y : y + 2 * rows : 2] for y in range(4)])
    tiles = [tile for row in by_row for tile in spread([row[:, :, x : x + 2 * columns : 2] for x in range(4)])]
    products = jnp.einsum("tni,tio->tno", jnp.stack(tiles).reshape(16, -1, maps.shape[-1]), turned)
    products = products.reshape(4, 4, count, rows, columns, -1)  # [y, x, N, rows, columns, O]
    made = gather(gather(products).swapaxes(0, 1))  # [x, y, N, rows, columns, O]
    made = made.transpose(2, 3, 1, 4, 0, 5).reshape(count, 2 * rows, 2 * columns, -1)
    return made[:, :height, :width]
