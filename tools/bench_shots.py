"""How well shots are told apart: cuts, dissolves, fades and flashes made of real clips, and what is found of them.

    python tools/bench_shots.py ~/gp_test_data/davis

The clips of a folder as DAVIS has them follow one another as one film. In turn they meet in a cut, in a dissolve of 12
frames, in a cut, and in a fade to black and back, of 8 frames each with 2 black ones between; a flash of 1 to 4 frames
falls into every second clip. Right are a cut at its frame, none within two frames of a flash or in a dissolve, and one
within the black of a fade. What else is found is false.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from jobs import run
from rich.console import Console
from rich.table import Table

from gp_jax.cli.arguments import HelpFormatter, seed
from gp_jax.data.shots import cuts
from gp_jax.video import VideoReader
from gp_jax.video.clips import clips_in

HEIGHT, WIDTH, LONGEST = 120, 160, 40
DISSOLVE, FADE, DARK = 12, 8, 2
TURNS = "cut", "dissolve", "cut", "fade"


def film(clips: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """Joins clips, uint8 [T, H, W, 3] each, and tells where events are.

    Returns:
      uint8 [frames, H, W, 3], and of each event its kind, and the first and last frame at which a shot may (cut, fade)
      or may not begin.
    """
    made, events = [], []
    count = 0
    for number, clip in enumerate(clips):
        clip = clip.astype(np.float32)
        if number % 2:
            length, at = int(rng.integers(1, 5)), len(clip) // 2
            fading = np.linspace(1, 0.3, length)[:, None, None, None]
            clip[at : at + length] += (255 - clip[at : at + length]) * fading
            events.append(("flash", count + at - 2, count + at + length + 2))
        turn = TURNS[number % len(TURNS)] if number else ""
        if turn == "dissolve":
            before = made.pop()
            share = np.linspace(0, 1, DISSOLVE + 2)[1:-1, None, None, None]
            mixed = (1 - share) * before[-DISSOLVE:] + share * clip[:DISSOLVE]
            made += [before[:-DISSOLVE], mixed, clip[DISSOLVE:]]
            events.append((turn, count - DISSOLVE, count))
            events = [
                (k, a - DISSOLVE, b - DISSOLVE) if k == "flash" and a > count else (k, a, b) for k, a, b in events
            ]
            count -= DISSOLVE
        elif turn == "fade":
            before = made.pop()
            down = np.linspace(1, 0, FADE)[:, None, None, None]
            before[-FADE:] *= down
            clip[:FADE] *= down[::-1]
            made += [before, np.zeros((DARK, *clip.shape[1:]), np.float32), clip]
            events.append((turn, count - 1, count + DARK + 1))
            events = [(k, a + DARK, b + DARK) if k == "flash" and a > count else (k, a, b) for k, a, b in events]
            count += DARK
        else:
            made.append(clip)
            if turn:
                events.append((turn, count, count))
        count += len(clip)
    return np.concatenate(made).round().clip(0, 255).astype(np.uint8), events


def judged(events: list[tuple[str, int, int]], found: list[int]) -> Counter[str]:
    """How many events of each kind were dealt with as they should be, and how many shots begin elsewhere."""
    right, known = Counter(), set()
    for kind, first, last in events:
        there = {frame for frame in found if first <= frame <= last}
        right[kind] += len(there) == (kind in ("cut", "fade"))
        known |= there
    right["false"] = len(set(found) - known)
    return right


def main(arguments: argparse.Namespace) -> None:
    """Prints the table."""
    rng = np.random.default_rng(arguments.seed)
    clips = []
    for path in clips_in(arguments.data / "JPEGImages" / "480p").values():
        reader = VideoReader(path).resized(HEIGHT, WIDTH)
        clips.append(np.stack(list(reader.frames_at(range(min(len(reader), LONGEST))))))
    frames, events = film([clips[index] for index in rng.permutation(len(clips))], rng)
    right, total = judged(events, cuts(frames)), Counter(kind for kind, _, _ in events)
    table = Table("kind", "right", "of")
    for kind, count in sorted(total.items()):
        table.add_row(kind, str(right[kind]), str(count))
    table.add_row("found elsewhere", str(right["false"]), f"{len(frames)} frames")
    Console().print(table)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("data", type=Path, help="a folder as DAVIS has it")
    parser.add_argument("--seed", type=seed, default=0, help="of the order of the clips, and of the flashes")
    return parser.parse_args()


if __name__ == "__main__":
    run(main, parse())
