"""Every kernel computes what the einsum does, forwards and backwards, for every shape that the networks have."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from gp_jax.models import attention
from gp_jax.models.attention import AUTO, NAMES, attend, blocks, choose
from gp_jax.parallel import make_mesh, use_mesh

# [B, N, Q, K, H, D], as in SD1.5 (40, 80, 160), SD2 (64), M3DDM and EST, with fewer tokens: odd and even ones, the 77
# of a text, 64 global tokens, a window, frames, a single token.
SHAPES = {
    "space": (1, 2, 260, 260, 2, 40),
    "wide heads": (1, 1, 64, 64, 2, 160),
    "text": (1, 1, 96, 77, 2, 64),
    "global tokens": (2, 1, 50, 64, 1, 64),
    "window": (1, 3, 27, 27, 2, 80),
    "frames": (1, 9, 16, 16, 2, 8),
    "one": (2, 1, 1, 1, 1, 8),
}
EXTRAS = {
    "plain": (False, False),
    "bias": (True, False),
    "mask": (False, True),
    "both": (True, True),
}


def given(shape, bias, mask, dtype=jnp.float32):
    """Query, key, value, and a bias per head and a mask per group, or None."""
    b, n, q, k, h, d = shape
    keys = iter(jax.random.split(jax.random.key(math.prod(shape)), 5))
    arrays = [jax.random.normal(next(keys), (b, n, s, h, d), dtype) for s in (q, k, k)]
    bias = jax.random.normal(next(keys), (1, 1, h, q, k)) if bias else None
    seen = jax.random.bernoulli(next(keys), 0.7, (1, n, 1, q, k)) | (jnp.arange(k) == 0)
    return *arrays, bias, seen if mask else None


@functools.cache
def expected_of(shape, bias, mask):
    """What the einsum makes of `given`."""
    return outcome("einsum", *given(shape, bias, mask))


def outcome(kernel, query, key, value, bias, mask=None, regions=None):
    """The result, and the gradient for all that has one."""

    def loss(query, key, value, bias):
        made = attend(query, key, value, bias=bias, mask=mask, regions=regions, kernel=kernel)
        return (made.astype(jnp.float32) ** 2).sum(), made

    moving = (0, 1, 2) if bias is None else (0, 1, 2, 3)
    gradient, made = jax.jit(jax.grad(loss, moving, has_aux=True))(query, key, value, bias)
    return made, *gradient


def flash(query, key, value, bias, mask, q_seqlen, kv_seqlen, **options):
    """In cuDNN's place, with what it demands of a gradient: 16-bit, even lengths, whole logits."""
    (batch, queries, heads, width), keys = query.shape, key.shape[1]
    assert query.dtype in (jnp.bfloat16, jnp.float16) and width % 8 == 0 and width <= 128
    assert queries % 2 == keys % 2 == 0
    assert all(x is None or x.shape == (batch, heads, queries, keys) for x in (mask,))
    assert bias is None or bias.shape in ((batch, heads, queries, keys), (1, heads, queries, keys))
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32) * options["scale"]
    logits = logits + (0 if bias is None else bias)
    seen = jnp.ones_like(logits, bool) if mask is None else mask
    if kv_seqlen is not None:
        assert q_seqlen.shape == kv_seqlen.shape == (batch,) and q_seqlen.dtype == kv_seqlen.dtype == jnp.int32
        seen &= jnp.arange(keys) < kv_seqlen[:, None, None, None]
    weights = jax.nn.softmax(jnp.where(seen, logits, -1e9), axis=-1).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kernel", [name for name in NAMES if name not in ("einsum", "cudnn")])
def test_it_is_the_einsum(kernel, shape, extras):
    arrays = given(shape, *extras)
    if kernel == "splash" and choose(kernel, arrays[0], arrays[1], *arrays[3:]) == "einsum":
        return  # with a bias or a mask
    for found, expected in zip(outcome(kernel, *arrays), expected_of(shape, *extras), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, float(jnp.abs(expected).max())))


@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_cudnn_is_asked_for_what_it_can_do(shape, extras, monkeypatch):
    monkeypatch.setattr("jax._src.nn.functions.cudnn_dot_product_attention", flash)
    arrays = given(shape, *extras, jnp.bfloat16)
    assert choose("cudnn", arrays[0], arrays[1], *arrays[3:]) == ("cudnn" if shape[-1] <= 128 else "einsum")
    for found, expected in zip(outcome("cudnn", *arrays), outcome("einsum", *arrays), strict=True):
        scale = float(jnp.abs(expected.astype(jnp.float32)).max())
        np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), atol=0.03 * max(1, scale))


@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_cudnn_lowers_forwards_and_backwards(shape, extras, monkeypatch):
    """As jax itself checks it; only the library and the device are not here."""
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda capability: True)
    arrays = given(shape, *extras, jnp.bfloat16)
    lowered = jax.jit(lambda *x: outcome("cudnn", *x)).trace(*arrays).lower(lowering_platforms=("cuda",))
    assert ("fmha" in lowered.as_text()) == (shape[-1] <= 128)


@pytest.mark.parametrize("width, biased", [(64, True), (40, False), (128, True)])
@pytest.mark.parametrize("kernel", NAMES)
def test_regions_are_what_a_mask_says(kernel, width, biased, monkeypatch):
    monkeypatch.setattr("jax._src.nn.functions.cudnn_dot_product_attention", flash)
    dtype = jnp.bfloat16 if kernel == "cudnn" else jnp.float32
    query, key, value, bias, _ = given((2, 3, 130, 130, 2, width), biased, False, dtype)
    regions = np.random.default_rng(0).integers(-1, 3, (3, 130))
    mask = (regions[:, :, None] == regions[:, None, :])[None, :, None]
    found = outcome(kernel, query, key, value, bias, regions=regions)
    expected = outcome("einsum", query, key, value, bias, mask)
    for one, other in zip(found, expected, strict=True):
        scale = max(1, float(jnp.abs(other.astype(jnp.float32)).max()))
        np.testing.assert_allclose(
            one.astype(np.float32), other.astype(np.float32), atol=(0.03 if kernel == "cudnn" else 1e-5) * scale
        )


def test_a_bias_for_all_groups_stays_one_for_cudnn(monkeypatch):
    """Whole logits would cost the memory that the kernel spares."""
    seen = []
    monkeypatch.setattr(
        "jax._src.nn.functions.cudnn_dot_product_attention", lambda *x, **y: seen.append(x[3].shape) or flash(*x, **y)
    )
    query, key, value, bias, _ = given((2, 3, 130, 130, 2, 64), True, False, jnp.bfloat16)
    attend(query, key, value, bias=bias, regions=np.zeros((3, 130), int), kernel="cudnn")
    assert seen == [(1, 2, 130, 130)]


@pytest.mark.parametrize("shape", [(1, 2, 1024, 1024, 2, 40), (1, 1, 1100, 1300, 1, 160)])
def test_splash_lowers_for_tpus_forwards_and_backwards(shape, monkeypatch):
    monkeypatch.setattr(attention, "platform", lambda: "tpu")
    monkeypatch.setattr(attention.splash, "platform", lambda: "tpu")
    arrays = given(shape, False, False, jnp.bfloat16)
    lowered = jax.jit(lambda *x: outcome(AUTO, *x)).trace(*arrays).lower(lowering_platforms=("tpu",))
    assert "tpu_custom_call" in lowered.as_text()


CHOICES = {
    "cpu": {(4096, 4096, "float32", False): "blocks", (16, 16, "float32", False): "einsum"},
    "gpu": {
        (4096, 77, "bfloat16", False): "cudnn",
        (512, 512, "bfloat16", True): "cudnn",
        (64, 64, "bfloat16", False): "einsum",
        (4096, 16, "bfloat16", False): "einsum",
        (4096, 4096, "float32", False): "einsum",
    },
    "tpu": {(4096, 4096, "bfloat16", False): "splash", (4096, 77, "bfloat16", False): "einsum"},
}


@pytest.mark.parametrize("device", CHOICES)
def test_auto_takes_what_is_fast_there(device, monkeypatch):
    monkeypatch.setattr(attention, "platform", lambda: device)
    for (queries, keys, dtype, biased), expected in CHOICES[device].items():
        query, key = (jax.ShapeDtypeStruct((1, 2, count, 4, 64), dtype) for count in (queries, keys))
        bias = jax.ShapeDtypeStruct((1, 1, 4, queries, keys), "float32") if biased else None
        assert choose(AUTO, query, key, bias, None) == expected


def test_a_kernel_runs_on_the_devices_of_the_mesh_in_force():
    assert attention.platform() == "cpu"
    with use_mesh(make_mesh("data=8")):
        assert attention.platform() == "cpu"


def test_blocks_need_memory_for_one_block_alone():
    shape = jax.ShapeDtypeStruct((1, 1, 4096, 2, 8), jnp.float32)

    def gradient(kernel):
        def loss(*arrays):
            return attend(*arrays, kernel=kernel).sum()

        return jax.jit(jax.grad(loss, (0, 1, 2))).lower(shape, shape, shape).compile().memory_analysis()

    logits = 2 * 4096 * 4096 * 4
    assert gradient("einsum").temp_size_in_bytes > logits
    assert gradient("blocks").temp_size_in_bytes < 4 * logits * blocks.BLOCK / 4096


@pytest.mark.parametrize("kernel", NAMES)
@pytest.mark.parametrize("mesh", ["data=2,context=2,tensor=2", "context=8"])
def test_a_mesh_changes_nothing(kernel, mesh):
    if kernel == "cudnn":
        kernel = AUTO  # float32 is not for it
    query, key, value, *_ = given((2, 4, 130, 66, 2, 16), False, False)
    expected = attend(query, key, value, kernel="einsum")
    with use_mesh(make_mesh(mesh)):
        found = jax.jit(lambda *x: attend(*x, kernel=kernel))(query, key, value)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_attention_is_the_softmax_of_scaled_products():
    q, k, v = (jax.random.normal(jax.random.key(i), (1, 1, n, 1, 4)) for i, n in enumerate((3, 5, 5)))
    logits = np.asarray(q[0, 0, :, 0] @ k[0, 0, :, 0].T) / 2.0
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(attend(q, k, v)[0, 0, :, 0], weights @ np.asarray(v[0, 0, :, 0]), atol=1e-5)


@pytest.mark.parametrize("groups, cut", [(8, (None, "context")), (1, (None, None, "context"))])
def test_context_cuts_the_groups_or_else_the_queries(groups, cut):
    """Cross-attention has one group, of all the queries of a clip: no device may hold them all."""
    query, keys = jnp.ones((1, groups, 16, 2, 4)), jnp.ones((1, groups, 3, 2, 4))
    with use_mesh(make_mesh("context=8")):
        compiled = jax.jit(attend).lower(query, keys, keys).compile()
    assert compiled.output_shardings.spec[: len(cut)] == cut
    assert "all-gather" not in compiled.as_text()
