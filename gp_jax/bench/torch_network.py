"""The UNet of gp_jax.models in plain torch, layer by layer: what its speed is compared with.

Its parameters have the names that ours have, so that weights can be carried over (`state_dict_of`), and then it
computes the same: tests/bench/test_torch_network.py. It is written as one writes for torch: maps are [B * T, C, h, w]
in channels_last, whose tokens [B * T, h, w, C] are a view of them, and attention is
`torch.nn.functional.scaled_dot_product_attention`.

Not here: AnimateDiff's motion modules, and norms that take all frames together.
"""

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gp_jax.errors import UserError
from gp_jax.models.unet_config import ATTENTION_BLOCKS, UNetConfig
from gp_jax.models.windows import relative_positions, window_grid, window_regions


class Condition(NamedTuple):
    """What every block may look at; `batch` segments, whose frames lie one behind the other in the first axis."""

    batch: int
    embedding: Tensor
    text: Tensor
    tokens: Tensor | None
    positions: Tensor


class UNet(nn.Module):
    """For segments of `volume`, frames, height and width of latents. Raises UserError on what is not here."""

    def __init__(self, config: UNetConfig, volume: tuple[int, int, int]):
        super().__init__()
        if config.motion_modules or config.norm_joint:
            raise UserError("torch's side of the comparison has no motion modules and no norms of all frames together")
        self.config = config
        frames, *sides = volume
        volumes = [
            (frames, *(-(-side // 2**level) for side in sides)) for level in range(len(config.block_out_channels))
        ]
        make = Factory(config, volumes)
        widths, layers = config.block_out_channels, config.layers_per_block
        last, embedding = len(widths) - 1, 4 * widths[0]
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = EmbeddingMLP(widths[0], embedding)
        self.stride_embedding = EmbeddingMLP(widths[0], embedding) if config.temporal else None
        self.down, skips = nn.ModuleList(), [widths[0]]
        for level, width in enumerate(widths):
            inputs = [skips[-1]] + [width] * (layers - 1)
            attended = ATTENTION_BLOCKS[config.down_block_types[level]]
            self.down.append(DownBlock(make, inputs, width, level, attended, level == last))
            skips += [width] * (layers + (level < last))
        self.middle = MiddleBlock(make, widths[-1], last)
        self.up, below = nn.ModuleList(), widths[-1]
        for index, level in enumerate(reversed(range(last + 1))):
            width = widths[level]
            inputs = [x + skips.pop() for x in [below] + [width] * layers]
            attended = ATTENTION_BLOCKS[config.up_block_types[index]]
            self.up.append(UpBlock(make, inputs, width, level, attended, level == 0))
            below = width
        self.norm_out = nn.GroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def forward(self, sample: Tensor, timesteps: Tensor, text: Tensor, tokens: Tensor | None, frames: Tensor) -> Tensor:
        """Args: sample: [B * T, C, h, w]. timesteps: [B]. text: [B, L, D]. tokens: [B, K, D] or None. frames: [B, T]
        rising source indices. Returns: [B * T, C', h, w]."""
        width, dtype = self.config.block_out_channels[0], sample.dtype
        steps = frames.shape[1] - 1
        stride = (frames[:, -1] - frames[:, 0]) / steps if steps else torch.ones_like(frames[:, 0])
        options = {"cosine_first": self.config.flip_sin_to_cos, "shift": self.config.freq_shift}
        embedding = self.time_embedding(sinusoidal(timesteps, width, **options).to(dtype))
        if self.stride_embedding is not None:
            embedding = embedding + self.stride_embedding(sinusoidal(stride, width, **options).to(dtype))
        positions = (frames - frames[:, :1]) / stride[:, None]
        condition = Condition(len(frames), embedding, text, tokens, positions)
        x = self.conv_in(sample)
        skips = [x]
        for block in self.down:
            x, made = block(x, condition)
            skips += made
        x = self.middle(x, condition)
        for block in self.up:
            x = block(x, skips, condition)
        return self.conv_out(F.silu(self.norm_out(x)))


class Factory:
    """Counts the transformers of a network, every second of which is shifted; `volumes`: of the maps of each level."""

    def __init__(self, config: UNetConfig, volumes: list[tuple[int, ...]]):
        self.config, self.volumes, self.shifts = config, volumes, itertools.cycle([False, True])

    def transformers(self, width: int, level: int, count: int) -> nn.ModuleList:
        heads, volume = self.config.heads(level), self.volumes[level]
        return nn.ModuleList(Transformer(self.config, width, heads, volume, next(self.shifts)) for _ in range(count))


class DownBlock(nn.Module):
    def __init__(self, make, inputs, width, level, attended, last):
        super().__init__()
        self.residual = nn.ModuleList(Residual(make.config, size, width) for size in inputs)
        self.transformer = make.transformers(width, level, len(inputs)) if attended else None
        self.downsample = None if last else nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x, condition):
        made = []
        for index, residual in enumerate(self.residual):
            x = residual(x, condition)
            if self.transformer is not None:
                x = self.transformer[index](x, condition)
            made.append(x)
        if self.downsample is not None:
            x = self.downsample(x)
            made.append(x)
        return x, made


class MiddleBlock(nn.Module):
    def __init__(self, make, width, level):
        super().__init__()
        self.residual = nn.ModuleList(Residual(make.config, width, width) for _ in range(2))
        self.transformer = make.transformers(width, level, 1)[0]

    def forward(self, x, condition):
        return self.residual[1](self.transformer(self.residual[0](x, condition), condition), condition)


class UpBlock(nn.Module):
    def __init__(self, make, inputs, width, level, attended, last):
        super().__init__()
        self.residual = nn.ModuleList(Residual(make.config, size, width) for size in inputs)
        self.transformer = make.transformers(width, level, len(inputs)) if attended else None
        self.upsample = None if last else nn.ModuleDict({"convolution": nn.Conv2d(width, width, 3, padding=1)})

    def forward(self, x, skips, condition):
        for index, residual in enumerate(self.residual):
            x = residual(torch.cat([x, skips.pop()], dim=1), condition)
            if self.transformer is not None:
                x = self.transformer[index](x, condition)
        if self.upsample is None:
            return x
        height, width = skips[-1].shape[-2:]
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")[..., :height, :width]
        return self.upsample["convolution"](x)


class Residual(nn.Module):
    """A spatial residual block and, in a video network, a temporal convolution behind it."""

    def __init__(self, config, inputs, outputs):
        super().__init__()
        self.spatial = SpatialResidual(config, inputs, outputs)
        self.temporal = TemporalConvolution(outputs, config.norm_num_groups) if config.temporal else None

    def forward(self, x, condition):
        x = self.spatial(x, condition.embedding)
        return x if self.temporal is None else self.temporal(x, condition.batch)


class SpatialResidual(nn.Module):
    def __init__(self, config, inputs, outputs):
        super().__init__()
        groups, epsilon = config.norm_num_groups, config.norm_eps
        self.norm1, self.norm2 = nn.GroupNorm(groups, inputs, epsilon), nn.GroupNorm(groups, outputs, epsilon)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.embedding = nn.Linear(4 * config.block_out_channels[0], outputs)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, embedding):
        y = self.conv1(F.silu(self.norm1(x)))
        shift = self.embedding(F.silu(embedding)).repeat_interleave(len(x) // len(embedding), dim=0)
        y = self.conv2(F.silu(self.norm2(y + shift[:, :, None, None])))
        return y + (x if self.shortcut is None else self.shortcut(x))


class TemporalConvolution(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, 1e-5)
        self.convolution = nn.Linear(3 * channels, channels)

    def forward(self, x, batch):
        y = tokens_of(F.silu(self.norm(x)))
        y = y.reshape(batch, -1, *y.shape[1:])
        padded = F.pad(y, (0, 0, 0, 0, 0, 0, 1, 1))
        y = self.convolution(torch.cat([padded[:, :-2], y, padded[:, 2:]], dim=-1))
        return x + maps_of(y.flatten(0, 1))


class Transformer(nn.Module):
    """A spatial transformer and, in a video network, an EST transformer behind it."""

    def __init__(self, config, width, heads, volume, shifted):
        super().__init__()
        self.spatial = SpatialTransformer(config, width, heads)
        self.space_time = SpaceTimeTransformer(config, width, heads, volume, shifted) if config.temporal else None

    def forward(self, x, condition):
        x = self.spatial(x, condition)
        return x if self.space_time is None else self.space_time(x, condition)


class SpatialTransformer(nn.Module):
    def __init__(self, config, width, heads):
        super().__init__()
        self.norm = nn.GroupNorm(config.norm_num_groups, width, 1e-6)
        self.project_in, self.project_out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = Attention(width, heads, width)
        self.cross_attention = Attention(width, heads, config.cross_attention_dim, config.global_tokens)
        self.feed_forward = FeedForward(width, 4)

    def forward(self, x, condition):
        y = self.project_in(tokens_of(self.norm(x)))
        shape, y = y.shape, y.flatten(1, 2)
        normed = self.norm1(y)
        y = y + self.self_attention(normed, normed)
        # All frames of a clip share text and global tokens, so they are one group of queries.
        queries = self.norm2(y).reshape(condition.batch, -1, y.shape[-1])
        y = y + self.cross_attention(queries, condition.text, condition.tokens).reshape(y.shape)
        y = y + self.feed_forward(self.norm3(y))
        return x + maps_of(self.project_out(y).reshape(shape))


class Attention(nn.Module):
    def __init__(self, width, heads, context, global_tokens=False):
        super().__init__()
        self.heads = heads
        self.query, self.output = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.key, self.value = nn.Linear(context, width, bias=False), nn.Linear(context, width, bias=False)
        if global_tokens:
            self.global_key = nn.Linear(context, width, bias=False)
            self.global_value = nn.Linear(context, width, bias=False)

    def forward(self, x, context, tokens=None):
        query = self.query(x)
        y = attend(query, self.key(context), self.value(context), self.heads)
        if tokens is not None:
            y = y + attend(query, self.global_key(tokens), self.global_value(tokens), self.heads)
        return self.output(y)


class SpaceTimeTransformer(nn.Module):
    """On tokens [B, T, h, w, C]: over the frames, within 3D windows, and a feed-forward."""

    def __init__(self, config, width, heads, volume, shifted):
        super().__init__()
        self.temporal, self.windowed = TemporalAttention(width, heads), None
        if config.window is not None:
            self.windowed = WindowedAttention(width, heads, config.window, volume, shifted)
        self.norm, self.feed_forward = nn.LayerNorm(width), FeedForward(width, config.est_multiplier)

    def forward(self, x, condition):
        y = tokens_of(x)
        y = y.reshape(condition.batch, -1, *y.shape[1:])
        y = self.temporal(y, condition.positions)
        if self.windowed is not None:
            y = self.windowed(y)
        return maps_of((y + self.feed_forward(self.norm(y))).flatten(0, 1))


class SelfAttention(nn.Module):
    """What attention over frames and within windows have in common."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.output = nn.Linear(width, width)

    def attended(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.output(attend(self.query(y), self.key(y), self.value(y), self.heads, mask))


class TemporalAttention(SelfAttention):
    def forward(self, x, positions):
        batch, frames, height, width, channels = x.shape
        encoding = sinusoidal(positions, channels, cosine_first=False).to(x.dtype)
        y = self.norm(x) + encoding[:, :, None, None]
        y = y.permute(0, 2, 3, 1, 4).reshape(-1, frames, channels)
        y = self.attended(y).reshape(batch, height, width, frames, channels)
        return x + y.permute(0, 3, 1, 2, 4)


class WindowedAttention(SelfAttention):
    rows: Tensor  # [S, S], of the bias
    unseen: Tensor | None  # [N, S, S], added where no token may look

    def __init__(self, width, heads, window, volume, shifted):
        super().__init__(width, heads)
        self.relative_bias = nn.Parameter(0.02 * torch.randn(math.prod(2 * size - 1 for size in window), heads))
        self.grid = grid = window_grid(volume, window, shifted=shifted)
        rows, regions = relative_positions(grid.window, window), window_regions(grid)
        unseen = None
        if regions is not None:
            seen = regions[:, :, None] == regions[:, None, :]
            unseen = torch.from_numpy(np.where(seen, np.float32(0), np.float32(-1e9)))
        self.register_buffer("rows", torch.from_numpy(rows).long(), persistent=False)
        self.register_buffer("unseen", unseen, persistent=False)

    def forward(self, x):
        grid, batch = self.grid, len(x)
        mask = self.relative_bias[self.rows].permute(2, 0, 1)[None].to(x.dtype)  # [1, heads, S, S]
        if self.unseen is not None:
            mask = (mask + self.unseen[:, None].to(x.dtype)).repeat(batch, 1, 1, 1)  # [B * N, heads, S, S]
        pads = [pad for size, full in zip(grid.volume[::-1], grid.padded[::-1]) for pad in (0, full - size)]
        y = F.pad(self.norm(x), [0, 0, *pads]).roll([-shift for shift in grid.shift], dims=(1, 2, 3))
        (nt, nh, nw), (t, h, w) = grid.counts, grid.window
        y = y.reshape(batch, nt, t, nh, h, nw, w, -1).permute(0, 1, 3, 5, 2, 4, 6, 7)
        shape, y = y.shape, y.reshape(batch * nt * nh * nw, t * h * w, -1)
        y = self.attended(y, mask).reshape(shape).permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, *grid.padded, -1)
        frames, height, width = grid.volume
        return x + y.roll(grid.shift, dims=(1, 2, 3))[:, :frames, :height, :width]


class FeedForward(nn.Module):
    def __init__(self, width, multiplier):
        super().__init__()
        self.expand = nn.Linear(width, 2 * multiplier * width)
        self.contract = nn.Linear(multiplier * width, width)

    def forward(self, x):
        value, gate = self.expand(x).chunk(2, dim=-1)
        return self.contract(value * F.gelu(gate))


class EmbeddingMLP(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(inputs, outputs), nn.Linear(outputs, outputs)

    def forward(self, x):
        return self.linear2(F.silu(self.linear1(x)))


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """[N, S, C] each, like the result; mask: added to the logits."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


def sinusoidal(values: Tensor, width: int, *, cosine_first: bool = True, shift: float = 0.0) -> Tensor:
    """[...] -> [..., width] float32; see `gp_jax.models.layers.sinusoidal`."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=values.device)
    angles = values[..., None].float() * torch.exp(-math.log(10_000.0) * steps / (half - shift))
    return torch.cat([angles.cos(), angles.sin()] if cosine_first else [angles.sin(), angles.cos()], dim=-1)


def tokens_of(maps: Tensor) -> Tensor:
    """[N, C, h, w] -> [N, h, w, C], a view in channels_last."""
    return maps.permute(0, 2, 3, 1)


def maps_of(tokens: Tensor) -> Tensor:
    """[N, h, w, C] -> [N, C, h, w], likewise."""
    return tokens.permute(0, 3, 1, 2)


def state_dict_of(parameters: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Our parameters as torch lays them out: outputs before inputs, and those before the sides of a kernel."""

    def laid_out(name: str, array: np.ndarray) -> np.ndarray:
        if not name.endswith("kernel"):
            return array
        return array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)

    return {
        name.replace(".kernel", ".weight").replace(".scale", ".weight"): torch.from_numpy(laid_out(name, x).copy())
        for name, x in parameters.items()
    }
