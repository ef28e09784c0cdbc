"""The film that shots are looked for in has the events that are told of it."""

import numpy as np
from bench_shots import film, judged


def test_events_lie_where_they_are_told():
    rng = np.random.default_rng(0)
    clips = [np.full((30, 12, 16, 3), 20 + 20 * number, np.uint8) for number in range(8)]
    frames, events = film(clips, rng)
    assert {kind for kind, _, _ in events} == {"cut", "dissolve", "fade", "flash"}
    level = frames.mean(axis=(1, 2, 3))
    for kind, first, last in events:
        if kind == "cut":
            assert first == last and level[first] - level[first - 1] == 20
        elif kind == "flash":
            assert level[first + 2] > 250 and level[first + 1] < 200 and level[last] < 200
        elif kind == "fade":
            assert (level[first + 1 : last - 1] == 0).all() and level[first - 3] > 0 < level[last + 2]
        else:
            assert (np.diff(level[first - 1 : last + 1]) > 0).all()
    right = [first + (kind == "fade") for kind, first, _ in events if kind in ("cut", "fade")]
    told = judged(events, right)
    assert told["false"] == 0 and told["flash"] == 4 and told["cut"] == sum(kind == "cut" for kind, _, _ in events)
    assert judged(events, [*right, 3])["false"] == 1
    assert judged(events, [])["cut"] == 0
