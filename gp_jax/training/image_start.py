"""M3DDM out of Stable Diffusion's UNet: the image network's parameters, where M3DDM has their like.

    placed = from_image(tensors, unet_config, shapes, config, "sd15/unet")      M3DDM's name -> tensor
    shapes.keys() - placed.keys()                                               what M3DDM alone has, and starts fresh

    down.0.residual.1.spatial.conv1.kernel   ->  down.0.residual.1.conv1.spatial.kernel
    down.0.residual.1.spatial.embedding.bias ->  down.0.residual.1.time.bias
    conv_in.kernel                           ->  conv_in.kernel, its inputs in M3DDM's order: the mask comes last

Fresh are the convolutions and transformers over frames, the frame rate, the global encoder, and keys and values of the
cross-attention, which reads its tokens in the place of text.
"""

import re
from collections.abc import Mapping

import numpy as np

from gp_jax.checkpoint.tensors import LazyTensor, Tensors, check_match
from gp_jax.errors import UserError
from gp_jax.models.m3ddm.config import M3DDMConfig
from gp_jax.models.unet_config import UNetConfig

_NAMES = (
    (r"(.*residual\.\d+)\.spatial\.embedding\.", r"\1.time."),
    (r"(.*residual\.\d+)\.spatial\.(conv\d)\.", r"\1.\2.spatial."),
    (r"(.*residual\.\d+)\.spatial\.", r"\1."),
    (r"conv_out\.", "conv_out.spatial."),
)
_CONTEXT = re.compile(r".*cross_attention\.(key|value)\.")
_FRESH = re.compile(rf"global_encoder\.|rate_embedding\.|.*\.(temporal|rate)\.|{_CONTEXT.pattern}")


def from_image(
    tensors: Mapping[str, LazyTensor], unet: UNetConfig, expected: Tensors, config: M3DDMConfig, source: str
) -> dict[str, LazyTensor]:
    """The parameters of an image UNet by M3DDM's names.

    Args:
      tensors: of the UNet, by our names, those that make a video network of it left out.
      unet: its config.
      expected: M3DDM's parameters, anything with `shape`.
      config: M3DDM's.
      source: of the UNet, for messages.

    Raises:
      UserError: the two networks are of different widths, depths or numbers of heads.
    """
    heads = {unet.heads(level) for level in range(len(unet.block_out_channels))}
    if heads != {config.attention_head_dim}:
        raise UserError(
            f"{source} attends with {', '.join(map(str, sorted(heads)))} heads and M3DDM with "
            f"{config.attention_head_dim}: start from Stable Diffusion 1.5"
        )
    placed = {}
    for name, tensor in tensors.items():
        placed[_renamed(name)] = _reordered(tensor, unet.out_channels) if name == "conv_in.kernel" else tensor
    for name in [*placed]:
        if _CONTEXT.match(name) and name in expected and placed[name].shape != expected[name].shape:
            del placed[name]
    fresh = {name for name in expected if _FRESH.match(name)} - placed.keys()
    check_match({name: x for name, x in expected.items() if name not in fresh}, placed, source)
    return placed


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        renamed, count = re.subn(rf"^{pattern}", replacement, name)
        if count:
            return renamed
    return name


def _reordered(kernel: LazyTensor, latents: int) -> LazyTensor:
    """[3, 3, noisy latents | mask | masked latents, C] -> [3, 3, noisy latents | masked latents | mask, C]."""

    def read() -> np.ndarray:
        noisy, mask, masked = np.split(np.asarray(kernel), (latents, latents + 1), axis=2)
        return np.concatenate([noisy, masked, mask], axis=2)

    return LazyTensor(kernel.shape, kernel.dtype, read)
