"""Attention: one entry point, a file for each kernel behind it.

Every attention of this project has the same five axes, `[B, N, S, H, D]`: N groups of S tokens, each group attending
to itself only.

  spatial self-attention     N = frames,              S = positions
  temporal self-attention    N = positions,           S = frames
  3D windowed attention      N = windows,             S = tokens of a window
  cross-attention            N = 1,                   S = all queries; keys are text or global tokens

Letters, here and in the kernels: b batch, n groups, q/k tokens, h heads, d head width.

All kernels compute the same; what they cannot take, the einsum does. `auto` takes a kernel where it was measured, or is
known, to be faster, by shape, type and device:

  device   kernel   where                                                                      measured
  CPU      blocks   128 queries and 64 keys or more                                            (1)
  GPU      cudnn    16-bit, 128 queries and 64 keys or more, no mask, a bias for all groups alike   (2)
                    if any, heads of a multiple of 8, up to 128
  TPU      splash   no bias, no mask, 1024 queries and keys or more                            not measured

(1) tools/bench_attention.py
(2) an H100, bfloat16, microseconds of einsum and cudnn, forwards, and with the gradient; heads 64 wide
    (tools/bench_attention.py --dtype bfloat16 --shapes 16x1024x5x64,32x512x5x64 and so on, the last with --bias):

  groups, tokens, heads       einsum          cudnn
  16 x 1024 x 5              418, 1266       79, 339
  16 x 256 x 10              135, 381        89, 254
  16 x 64 x 20                85, 126       120, 217
  1024 x 16 x 5 (frames)      89, 118       111, 338
  32 x 512 x 5 (windows)     247, 682       118, 232
  the same, with a bias      364, 850       141, 370
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from gp_jax.errors import UserError
from gp_jax.models.attention import blocks, einsum, jax_nn, splash
from gp_jax.parallel import constrain, platform

Array = jax.Array
AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A way to compute attention.

    Attributes:
      run: (query, key, value, bias, mask) -> like query; arguments as for `attend`.
      run_apart: (query, key, value, bias, regions) -> like query; None where regions have to be told by a mask.
      takes: (query, key, bias, mask) -> whether it can.
      pays: (query, key, bias, mask) -> whether it is then faster than the einsum, on `device`.
      device: "cpu", "gpu" or "tpu", the platform that `auto` takes it on.
    """

    run: Callable[..., Array]
    run_apart: Callable[..., Array] | None = None
    takes: Callable[..., bool] = lambda query, key, bias, mask: True
    pays: Callable[..., bool] = lambda query, key, bias, mask: False
    device: str = ""


KERNELS = {
    "einsum": Kernel(einsum.run),
    "xla": Kernel(jax_nn.run_xla),
    "blocks": Kernel(blocks.run, None, blocks.takes, blocks.pays, "cpu"),
    "cudnn": Kernel(jax_nn.run_cudnn, jax_nn.run_cudnn_apart, jax_nn.takes_cudnn, jax_nn.pays_cudnn, "gpu"),
    "splash": Kernel(splash.run, None, splash.takes, splash.pays, "tpu"),
}
NAMES = (AUTO, *KERNELS)
ONLY_ON = {"cudnn": "gpu", "splash": "tpu"}  # the platform that has a kernel, where not every one has it


def attend(
    query: Array,
    key: Array,
    value: Array,
    *,
    bias: Array | None = None,
    mask: Array | None = None,
    regions: np.ndarray | None = None,
    kernel: str = AUTO,
) -> Array:
    """Scaled dot-product attention within each group.

    Args:
      query: [B, N, Q, H, D].
      key, value: [B, N, K, H, D].
      bias: added to the scaled logits, broadcastable to [B, N, H, Q, K].
      mask: bool, True where a query may see a key, broadcastable to [B, N, H, Q, K].
      regions: int [N, S] in the place of a mask, for self-attention: the region that a token lies in. Tokens see their
        own. A few regions, which need no logits in memory where a mask does.
      kernel: one of `NAMES`; the einsum where it cannot take these.

    Returns:
      [B, N, Q, H, D] in the dtype of `query`.
    """
    # A mesh axis is used once: where it cannot cut the groups, such as the single one of cross-attention, it cuts the
    # queries.
    queries, keys = ("batch", "window", "window", "heads", None), ("batch", "window", None, "heads", None)
    query, key, value = constrain(query, *queries), constrain(key, *keys), constrain(value, *keys)
    chosen = choose(kernel, query, key, bias, mask)
    if regions is not None and (run_apart := KERNELS[chosen].run_apart):
        return constrain(run_apart(query, key, value, bias, regions), *queries)
    if regions is not None:
        mask = einsum.mask_of(regions)
        chosen = choose(kernel, query, key, bias, mask)
    return constrain(KERNELS[chosen].run(query, key, value, bias, mask), *queries)


def choose(kernel: str, query: Array, key: Array, bias: Array | None, mask: Array | None) -> str:
    """The kernel that `attend` runs for a name of `NAMES`."""
    if kernel == AUTO:
        device = platform()
        names = (name for name, known in KERNELS.items() if known.device == device)
        fast = (name for name in names if KERNELS[name].pays(query, key, bias, mask))
        kernel = next(fast, "einsum")
    return kernel if KERNELS[kernel].takes(query, key, bias, mask) else "einsum"


def check_kernel(kernel: str, device: str) -> None:
    """Raises UserError where there is no such kernel, or a platform, as `parallel.platform` calls it, lacks it."""
    if kernel not in NAMES:
        raise UserError(f"there is no attention {kernel!r}: choose of {', '.join(NAMES)}")
    if ONLY_ON.get(kernel, device) != device:
        raise UserError(
            f"attention {kernel} runs on a {ONLY_ON[kernel].upper()}, and this is a {device.upper()}: use auto"
        )


def split_heads(x: Array, heads: int) -> Array:
    """[..., H * D] -> [..., H, D]."""
    return x.reshape(*x.shape[:-1], heads, -1)


def merge_heads(x: Array) -> Array:
    """[..., H, D] -> [..., H * D]."""
    return x.reshape(*x.shape[:-2], -1)
