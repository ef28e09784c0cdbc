import pytest

from gp_jax.bench.profile import Kernel, Kind, by_kind, kind_of

# As they were seen in a profile of the image network of Stable Diffusion 2 on an H100.
SEEN = {
    "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128": "convolutions",
    "nvjet_sm90_tst_128x128_64x6_2x1_v_bz_bias_NNT": "matrix products",
    "gemm_fusion_dot_868": "matrix products",
    "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7": "attention",
    "wrapped_transpose_13": "transpositions",
    "wrapped_concatenate": "copies",
    "input_reduce_fusion_143": "sums",
    "loop_multiply_fusion_80": "elementwise",
    "fusion_2544": "elementwise",
}


@pytest.mark.parametrize("name", SEEN)
def test_kernels_are_told_by_their_names(name):
    assert kind_of(name) == SEEN[name]


def test_times_are_those_of_a_call_and_gaps_are_idle():
    seen = [Kernel("gemm", 0, 3e6), Kernel("fusion_1", 2e6, 2e6), Kernel("gemm", 6e6, 1e6), Kernel("copy", 7e6, 1e6)]
    assert by_kind(reversed(seen), 2) == [
        Kind("matrix products", 2e-3, 1),
        Kind("elementwise", 1e-3, 0.5),
        Kind("idle", 1e-3, 0),
        Kind("copies", 0.5e-3, 0.5),
    ]
    assert by_kind([], 2) == []
