"""M3DDM in torch: functions of a state dictionary by its published names, written from the description alone."""

import math

import torch
import torch.nn.functional as F


class Reference:
    """Args: state: float tensors by published name. heads, groups: of the network."""

    def __init__(self, state, heads, groups):
        self.state, self.heads, self.groups = state, heads, groups

    def at(self, name):
        return self.state[f"{name}.weight"], self.state.get(f"{name}.bias")

    def has(self, name):
        return any(key.startswith(f"{name}.") for key in self.state)

    # Pieces; x is [B, C, F, H, W].

    def joint_norm(self, name, x, epsilon):
        return F.group_norm(x, self.groups, *self.at(name), eps=epsilon)

    def p3d(self, name, x):
        b, _, f, h, w = x.shape
        y = F.conv2d(x.transpose(1, 2).flatten(0, 1), *self.at(f"{name}.spatial_conv"), padding=1)
        y = y.reshape(b, f, -1, h, w).permute(0, 3, 4, 2, 1).flatten(0, 2)  # [B h w, C, F]
        y = F.conv1d(y, *self.at(f"{name}.temporal_conv"), padding=1)
        return y.reshape(b, h, w, -1, f).permute(0, 3, 4, 1, 2)

    def within(self, name, x, stride=1):
        return F.conv3d(x, *self.at(name), stride=(1, stride, stride), padding=(0, 1, 1))

    def embedding(self, name, values, period):
        width = self.at(f"{name}.linear_1")[0].shape[1]
        return self.mlp(name, sinusoid(values, width, period))

    def mlp(self, name, x):
        return F.linear(F.silu(F.linear(x, *self.at(f"{name}.linear_1"))), *self.at(f"{name}.linear_2"))

    def resnet(self, name, x, time, rate):
        y = self.p3d(f"{name}.conv1", F.silu(self.joint_norm(f"{name}.norm1", x, 1e-5)))
        added = F.linear(F.silu(time), *self.at(f"{name}.time_emb_proj"))
        added = added + F.linear(F.silu(rate), *self.at(f"{name}.fps_emb_proj"))
        y = y + added[:, :, None, None, None]
        y = self.p3d(f"{name}.conv2", F.silu(self.joint_norm(f"{name}.norm2", y, 1e-5)))
        return y + (F.conv3d(x, *self.at(f"{name}.conv_shortcut")) if self.has(f"{name}.conv_shortcut") else x)

    def attend(self, name, x, context):
        """x [N, Q, C], context [N, K, D]."""
        q, k, v = (
            F.linear(y, self.at(f"{name}.to_{letter}")[0]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for letter, y in zip("qkv", (x, context, context))
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        return F.linear((weights @ v).transpose(1, 2).flatten(2), *self.at(f"{name}.to_out.0"))

    def block(self, name, x, context):
        """Self-attention, attention to `context` (None: again to itself), feed-forward."""
        y = F.layer_norm(x, x.shape[-1:], *self.at(f"{name}.norm1"))
        x = x + self.attend(f"{name}.attn1", y, y)
        y = F.layer_norm(x, x.shape[-1:], *self.at(f"{name}.norm2"))
        x = x + self.attend(f"{name}.attn2", y, y if context is None else context)
        y = F.layer_norm(x, x.shape[-1:], *self.at(f"{name}.norm3"))
        value, gate = F.linear(y, *self.at(f"{name}.ff.net.0.proj")).chunk(2, dim=-1)
        return x + F.linear(value * F.gelu(gate), *self.at(f"{name}.ff.net.2"))

    def transformer(self, name, x, tokens):
        b, c, f, h, w = x.shape
        frames = x.transpose(1, 2).flatten(0, 1)
        y = F.group_norm(frames, self.groups, *self.at(f"{name}.norm"), eps=1e-6)
        y = F.conv2d(y, *self.at(f"{name}.proj_in")).flatten(2).transpose(1, 2)
        y = self.block(f"{name}.transformer_blocks.0", y, tokens.repeat_interleave(f, dim=0))
        y = F.conv2d(y.transpose(1, 2).reshape(b * f, c, h, w), *self.at(f"{name}.proj_out")) + frames
        x = y.reshape(b, f, c, h, w).transpose(1, 2)

        y = F.conv3d(self.joint_norm(f"{name}.norm2", x, 1e-6), *self.at(f"{name}.proj_in2"))
        places = sinusoid(torch.arange(f, dtype=x.dtype), 320, 1000.0)
        y = y.permute(0, 3, 4, 2, 1).flatten(0, 2) + self.mlp(f"{name}.temporal_position_embed_proj", places)
        y = self.block(f"{name}.transformer_blocks2.0", y, None)
        y = y.reshape(b, h, w, f, c).permute(0, 4, 3, 1, 2)
        return x + F.conv3d(y, *self.at(f"{name}.proj_out2"))

    def layers(self, name, x, skips, time, rate, tokens):
        """The ResNets of a level and their transformers; `skips` None on the way down. Yields each output."""
        layer = 0
        while self.has(f"{name}.resnets.{layer}"):
            x = x if skips is None else torch.cat([x, skips.pop()], dim=1)
            x = self.resnet(f"{name}.resnets.{layer}", x, time, rate)
            if self.has(f"{name}.attentions.{layer}"):
                x = self.transformer(f"{name}.attentions.{layer}", x, tokens)
            yield x
            layer += 1

    # The networks.

    def unet(self, sample, timesteps, rates, tokens):
        """[B, 9, F, H, W], [B], [B], [B, K, D] -> [B, 4, F, H, W]."""
        time = self.embedding("time_embedding", timesteps, 1000.0)
        rate = self.embedding("fps_embedding", torch.trunc(rates), 30.0)
        x = self.within("conv_in", sample)
        skips, levels = [x], 0
        while self.has(name := f"down_blocks.{levels}"):
            skips += self.layers(name, x, None, time, rate, tokens)
            x = skips[-1]
            if self.has(f"{name}.downsamplers"):
                x = self.within(f"{name}.downsamplers.0.conv", x, stride=2)
                skips.append(x)
            levels += 1
        x = self.resnet("mid_block.resnets.0", x, time, rate)
        x = self.transformer("mid_block.attentions.0", x, tokens)
        x = self.resnet("mid_block.resnets.1", x, time, rate)
        for level in range(levels):
            name = f"up_blocks.{level}"
            *_, x = self.layers(name, x, skips, time, rate, tokens)
            if self.has(f"{name}.upsamplers"):
                x = self.within(f"{name}.upsamplers.0.conv", F.interpolate(x, scale_factor=(1, 2, 2)))
        assert not skips
        return self.p3d("conv_out", F.silu(self.joint_norm("conv_norm_out", x, 1e-5)))

    def normed(self, name, x, stride, padding):
        y = F.conv2d(x, self.state[f"{name}.convolution.weight"], stride=stride, padding=padding)
        mean, variance = (self.state[f"{name}.normalization.running_{kind}"] for kind in ("mean", "var"))
        return F.batch_norm(y, mean, variance, *self.at(f"{name}.normalization"), eps=1e-5)

    def encode_global(self, latents):
        """[B, F, 4, h, w] -> [B, F h' w', D]."""
        b, f = latents.shape[:2]
        x = latents.flatten(0, 1)
        for stage, stride in enumerate((1, 1, 2, 1, 1)):
            for layer in range(2):
                name = f"global_img_encoder.resnet_layer.{stage}.layers.{layer}"
                stride_here = stride if layer == 0 else 1
                y = F.relu(self.normed(f"{name}.layer.0", x, 1, 0))
                y = F.relu(self.normed(f"{name}.layer.1", y, stride_here, 1))
                y = self.normed(f"{name}.layer.2", y, 1, 0)
                x = F.relu(y + (self.normed(f"{name}.shortcut", x, stride_here, 0) if layer == 0 else x))
        x = F.conv2d(x, *self.at("global_img_encoder.convolution"))
        return x.reshape(b, f, -1, x.shape[2] * x.shape[3]).transpose(2, 3).flatten(1, 2)


def sinusoid(values, width, period):
    """Cosines, then sines."""
    half = width // 2
    angles = values[:, None] * period ** (-torch.arange(half, dtype=values.dtype) / half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def trajectory(denoise, x, alphas):
    """PLMS by the 51 entries 981, 961, 961, 941, ..., 1, entered at the second.

    Args:
      denoise: (x, timestep) -> predicted noise.
      x: at the level of 961.
      alphas: [1000] float64, the cumulative products of 1 - beta.
    """

    def step(x, e, begin, end):
        a, b = alphas[begin], alphas[max(end, 0)]
        return (b / a) ** 0.5 * x - (b - a) * e / (a * (1 - b) ** 0.5 + (a * (1 - a) * b) ** 0.5)

    start, entries = x, [981, 961, *range(961, 0, -20)]
    history = [denoise(x, entries[1])]
    x = step(x, history[0], 961, 941)
    x = step(start, (denoise(x, entries[2]) + history[0]) / 2, 981, 961)
    orders = {2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
    for t in entries[3:]:
        history = [denoise(x, t), *history][:4]
        x = step(x, sum(weight * e for weight, e in zip(orders[len(history)], history)), t, t - 20)
    return x
