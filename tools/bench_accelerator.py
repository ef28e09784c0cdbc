"""All that `gp-jax bench` measures of a configuration on the accelerator of this machine, job after job, into a folder.

    python tools/bench_accelerator.py --output h100
    python tools/bench_accelerator.py --output h100 --limit 480 --only denoise
    python tools/bench_accelerator.py --output small --config configs/tiny.py:keyframes --sizes 64x64 --steps 2

In this order, which is that of their worth: one call of the image and of the video network, a training step, and a clip
of frames with a projection of 500, beside torch where that has them; each kernel of attention; the autoencoder; what
kinds of kernels took the time. Each for every size. A job is a `gp-jax bench` of its own and leaves a file when it has
ended well. Those that have one are not run again, so killed, or out of time, the same command goes on; programs that
were compiled lie in the cache folder. In the end all tables are printed, and what is missing.
"""

import argparse
import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

import jobs

from gp_jax.cli import arguments as parse
from gp_jax.cli.arguments import HelpFormatter
from gp_jax.cli.methods import ATTENTIONS
from gp_jax.errors import UserError
from gp_jax.files import write_text

PATIENCE = 20  # seconds
KERNELS = ",".join(name for name in ATTENTIONS if name != "auto")
# Name -> what follows `gp-jax bench`; {size} is WIDTHxHEIGHT of the frames, {source} three quarters of their width.
JOBS = {
    "denoise-image": "denoise --image --against torch --config.data.size={size}",
    "denoise-video": "denoise --against torch --config.data.size={size}",
    "step": "step --against torch --config.data.size={size}",
    "pipeline": "pipeline --source {source} --size {size} --config.settings.native_area={area} --steps {steps} "
    "--guidance 2",
    "denoise-kernels": "denoise --attention {kernels} --config.data.size={size}",
    "step-kernels": "step --attention {kernels} --config.data.size={size}",
    "vae": "vae --config.data.size={size}",
    "denoise-profile": "denoise --profile --config.data.size={size}",
    "step-profile": "step --profile --config.data.size={size}",
}


def main() -> None:
    """Runs what is missing, and prints what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="for a file per job")
    parser.add_argument("--config", default="configs/sd2.py:keyframes", metavar="FILE[:ARG]", help="what is measured")
    parser.add_argument(
        "--sizes", type=_sizes, default="256x256,512x512", metavar="WxH,...", help="of frames, the first one first"
    )
    parser.add_argument("--steps", type=parse.count, default=25, metavar="N", help="of denoising, in pipeline")
    parser.add_argument(
        "--only", type=_pattern, default="", metavar="PATTERN", help="jobs whose name this expression finds; all"
    )
    parser.add_argument(
        "--limit", type=parse.count, metavar="SECONDS", help="for all jobs; one that is under way then ends; none"
    )
    jobs.run(bench, parser.parse_args())


def bench(arguments: argparse.Namespace) -> int:
    """1 where a job has left nothing."""
    end = time.monotonic() + (arguments.limit or float("inf"))
    wanted = [
        (arguments.output / f"{name}-{width}x{height}.txt", _command(arguments, words, width, height))
        for (height, width), (name, words) in itertools.product(arguments.sizes, JOBS.items())
        if arguments.only.search(name)
    ]
    if not wanted:
        raise UserError(f"--only {arguments.only.pattern} finds none of {', '.join(JOBS)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    missing = []
    for number, (file, command) in enumerate(wanted, start=1):
        if not file.exists() and not _run(file, command, f"{number}/{len(wanted)}", end - time.monotonic()):
            missing.append(file)
    for file, _ in wanted:
        if file not in missing:
            print(file.read_text())
    if missing:
        print("missing:", *(file.stem for file in missing), file=sys.stderr)
    return int(bool(missing))


def _command(arguments: argparse.Namespace, words: str, width: int, height: int) -> list[str]:
    size, source = f"{width}x{height}", f"{width * 3 // 4}x{height}"
    words = words.format(size=size, source=source, area=width * height, steps=arguments.steps, kernels=KERNELS)
    return ["gp-jax", "bench", *words.split(), "--config", arguments.config]


def _run(file: Path, command: list[str], number: str, seconds: float) -> bool:
    """Whether the job has ended well within the time; what it tells on its way goes to the terminal."""
    if seconds <= 0:
        return False
    print(f"{number} {file.stem}: {' '.join(command)}", file=sys.stderr, flush=True)
    printed = _printed(["-m", "gp_jax", *command[1:]], seconds)
    if printed is not None:
        write_text(file, f"$ {' '.join(command)}\n{printed}")
    return printed is not None


def _printed(words: list[str], seconds: float) -> str | None:
    """What this Python prints, not another one that is on the PATH; None where it fails, or takes longer."""
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            out, _ = process.communicate(timeout=seconds if seconds < float("inf") else None)
        except BaseException as error:
            process.terminate()  # it ends what it has started, such as torch, and is killed only if it does not
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                return None
            raise
        return None if process.returncode else out


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"'{text:.40}' is no regular expression: {error}") from None


def _sizes(text: str) -> list[tuple[int, int]]:
    return [parse.size(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
