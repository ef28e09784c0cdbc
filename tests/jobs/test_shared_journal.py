"""A journal of two processes: what the first one has, both get; what it lacks, both make, and the first keeps."""

import pytest

from gp_jax.jobs.journal import Journal
from gp_jax.jobs.shared_journal import SharedJournal, journal_of
from tests.parallel import together


def test_a_process_on_its_own_has_its_own(tmp_path):
    assert type(journal_of(tmp_path / "work", {"seed": 3})) is Journal


def test_both_get_what_the_first_keeps(tmp_path):
    """Each has a folder of its own, to tell who wrote; numbers come bit for bit, those that jax knows not, too."""
    ends = together.run(f"""
    from pathlib import Path
    from gp_jax.jobs.shared_journal import journal_of
    folder, made = Path({str(tmp_path)!r}, str(number)), []
    def make():
        made.append(0)
        return {{"b": np.float64([[1 / 3, -0.0]]), "a": np.int64([2**40 + number]), "c": np.zeros((0, 3), np.float32)}}
    for often in (1, 1):
        with journal_of(folder, {{"seed": 3}}) as journal:
            assert journal.has("piece") == bool(made)
            found = journal.piece("piece", make)
            assert len(made) == 1
    assert found["a"] == 2**40 and found["a"].dtype == np.int64 and found["c"].shape == (0, 3)
    assert found["b"].tobytes() == np.float64([1 / 3, -0.0]).tobytes()
    journal.drop("piece")
    assert journal.find("piece") is None and folder.exists() == (number == 0)
    """)
    assert [end.code for end in ends] == [0, 0] and all("well" in end.printed for end in ends), ends


@pytest.mark.slow
def test_both_end_where_the_folder_is_of_other_work(tmp_path):
    with Journal(tmp_path / "work", {"seed": 4}):
        pass
    assert SharedJournal(tmp_path / "work", {"seed": 4}).of["seed"] == 4
    ends = together.run(f"""
    from pathlib import Path
    from gp_jax.jobs.shared_journal import journal_of
    with journal_of(Path({str(tmp_path / "work")!r}), {{"seed": 3}}) as journal:
        journal.has("piece")
    """)
    assert [end.code for end in ends] == [2, 2] and all("seed 4, not 3" in end.printed for end in ends), ends
