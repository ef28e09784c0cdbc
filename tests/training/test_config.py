"""A configuration knows its keys and their types; mistakes are one sentence."""

import pytest

from gp_jax.errors import UserError
from gp_jax.training.config import STAGES, default_config, load_config
from gp_jax.training.rules import check_fields

FILE = """
from gp_jax.training.config import default_config
ARMS = {"a": 1, "b": 2}
def get_config(arm):
    config = default_config("keyframes")
    config.steps = ARMS[arm]
    return config
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "c.py").write_text(FILE)
    return tmp_path / "c.py"


def test_overrides_take_the_type_of_the_field(file):
    overrides = {
        "steps": ("7", 7),
        "ema": ("1", 1.0),
        "optimizer.rate": ("3e-4", 3e-4),
        "mesh": ("data=2", "data=2"),
        "init_from": ("12", "12"),
        "data.records": ("('a', 'b')", ("a", "b")),
        "data.directions": ("horizontal", ("horizontal",)),
        "data.flip": ("false", False),
        "data.size": ("24x16", (16, 24)),
        "optimizer.groups": ("(('vae', 0.0),)", (("vae", 0.0),)),
    }
    config = load_config(f"{file}:a", [f"--config.{key}={text}" for key, (text, _) in overrides.items()])
    for key, (_, value) in overrides.items():
        found = config
        for name in key.split("."):
            found = found[name]
        assert found == value and type(found) is type(value), key


@pytest.mark.parametrize(
    "override, message",
    [
        ("--config.step=1", "no field"),
        ("--config.optimizer.rat=1", "no field"),
        ("--config.steps.x=1", "no field"),
        ("--config.settings.x.y=1", "no field"),
        ("--config.steps=many", "of type int"),
        ("--config.steps=1.5", "of type int"),
        ("--config.steps=True", "of type int"),
        ("--config.data.flip=2", "of type bool"),
        ("--config.optimizer=1", "of type ConfigDict"),
        ("--config.optimizer.groups=1", "of type tuple"),
        ("--config.steps", "form"),
        ("--steps=1", "form"),
    ],
)
def test_other_overrides_are_refused(file, override, message):
    with pytest.raises(UserError, match=message):
        load_config(f"{file}:a", [override])


def test_what_an_open_section_leaves_out_can_be_given(file):
    config = load_config(f"{file}:a", ["--config.settings.sampler=lcm", "--config.schedule.steps_offset=1"])
    check_fields(config)
    assert (config.settings.sampler, config.schedule.steps_offset) == ("lcm", 1)
    with pytest.raises(UserError, match="sample is no field"):
        check_fields(load_config(f"{file}:a", ["--config.settings.sample=lcm"]))


@pytest.mark.parametrize(
    "name, message", [("c.py:z", "no variant 'z'"), ("c.py", "takes an argument"), ("d.py", "no configuration")]
)
def test_files_that_give_no_configuration(file, name, message):
    with pytest.raises(UserError, match=message):
        load_config(str(file.with_name(name)))


BROKEN = {
    "def get_config(:": "line 1: SyntaxError",
    "import nothing_of_this_name": "line 1: ModuleNotFoundError",
    "def get_config():\n    return 1 / 0": "line 2: ZeroDivisionError",
    "def get_config():\n    raise SystemExit(3)": "line 2: SystemExit: 3",
    "def get_config():\n    return {}": "returns a dict",
    "get_config = 3": "no function get_config",
    "from gp_jax.training.config import default_config\ndef get_config():\n    c = default_config('image')\n"
    "    c.steps = 'x'\n    return c": "line 4: TypeError",
    "\0": "null bytes",
    "x = '\udcff'": "can't decode|utf-8",
}


@pytest.mark.parametrize("text", BROKEN, ids=ascii)
def test_a_file_that_fails_is_told_with_its_line(tmp_path, text):
    (tmp_path / "c.py").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=BROKEN[text]) as error:
        load_config(str(tmp_path / "c.py"))
    assert str(error.value).startswith(str(tmp_path / "c.py"))


ODD = (
    "",
    "[",
    "{[]: 1}",
    "(" * 1000,
    "9" * 400,
    "9" * 5000,
    "1e999",
    "nan",
    "é\u202e",
    "1x",
    "x" * 100_000,
    "(1,",
    "None",
    "--",
)
KEYS = (
    "steps",
    "ema",
    "optimizer.rate",
    "data.size",
    "data.strides",
    "mesh",
    "data.flip",
    "networks.unet",
    "",
    ".",
    "a.b",
)


@pytest.mark.parametrize("key", KEYS)
def test_odd_overrides_are_taken_or_refused(file, key):
    for text in ODD:
        try:
            load_config(f"{file}:a", [f"--config.{key}={text}"])
        except UserError:
            continue


def test_a_stage_trains_what_is_not_frozen():
    for name, stage in STAGES.items():
        assert stage.denoiser in stage.networks or stage.objective == "reconstruction"
        assert default_config(name).stage == name
