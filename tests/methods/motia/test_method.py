"""From the published folder to a wider video and back: the commands, one after the other."""

import numpy as np
import pytest

from gp_jax.cli.main import main
from gp_jax.methods.motia.method import MOTIAMethod
from gp_jax.methods.motia.options import Options
from tests import small_motia
from tests.methods.m3ddm.test_method import frames, read


@pytest.mark.slow  # 112 s on two busy cores; test_pipeline.py and test_clip_lora.py have its parts
def test_published_weights_outpaint_40_frames(tmp_path, capsys):
    source = frames(tmp_path / "frames", 40)
    published, ours = small_motia.write_published(tmp_path / "published"), tmp_path / "ours"
    assert main(["convert", str(published), str(ours)]) == 0
    arguments = ["--size", "27x27", "--anchor", "left", "--method", "motia", "--checkpoint", str(ours), "--steps", "2"]
    fitted = ["--adapt", "2", "--save-lora", str(tmp_path / "clip.safetensors")]
    assert main(["outpaint", str(source), str(tmp_path / "wide"), *arguments, *fitted]) == 0, capsys.readouterr().err
    made = read(tmp_path / "wide")
    assert made.shape == (40, 27, 27, 3)
    np.testing.assert_array_equal(made[:, :, :18], read(source))
    assert len(np.unique(made[:, :, 18:])) > 9
    given = ["--lora", str(tmp_path / "clip.safetensors")]
    assert main(["outpaint", str(source), str(tmp_path / "again"), *arguments, *given]) == 0, capsys.readouterr().err
    assert np.abs(read(tmp_path / "again").astype(int) - made).max() <= 1


def test_its_settings_say_all_that_its_result_depends_on(tmp_path):
    ours = small_motia.write(tmp_path / "ours")
    settings = MOTIAMethod(ours).settings(Options(seed=3, released=True))
    assert settings.keys() == {"checkpoint", "weights", "seed", "released"}
