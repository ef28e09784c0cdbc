"""The summary holds the measured means, and the published rows apart from them."""

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.evaluation.results import Results
from gp_jax.evaluation.summary import by_case, cost, summary
from tests.evaluation import small_results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return small_results.write(tmp_path_factory.mktemp("evaluation"))


def test_measured_rows_are_the_mean_over_the_cases(results):
    table = summary(results)
    whole, unknown, *_ = table.sections
    assert [column.name for column in table.columns] == ["method", "PSNR", "LPIPS", "FVD"]
    for section in (whole, unknown):
        assert section.ours and "2 clips" in section.title and "0.25 and 0.66" in section.title
        for index, (method, *values) in enumerate(section.rows):
            numbers = [small_results.number(index, a, b) for a in small_results.CASES for b in small_results.CLIPS]
            assert method == small_results.METHODS[index]
            np.testing.assert_allclose(values, np.mean(numbers))


def test_published_rows_say_that_they_are(results):
    published = [section for section in summary(results).sections if not section.ours]
    assert [section.title.split("(")[0] for section in published] == [
        "Published for DAVIS ",
        "Published for YouTube-VOS ",
    ]
    assert all("not on these clips" in section.title for section in published)
    assert published[0].rows[-1] == ("GlobalPaint", 20.91, 0.1540, 227.8)


def test_reservations_are_printed_with_what_they_are_about(results):
    assert f"fvd: {small_results.FEW}" in summary(results).notes
    assert "6 frames" in summary(results).notes[0] and "videogpt" in summary(results).notes[0]


def test_each_case_has_its_own_sections(results):
    sections = by_case(results).sections
    assert [section.title for section in sections] == [
        f"{case}, {region}" for case in small_results.CASES for region in ("whole frame", "unknown region")
    ]
    assert sections[0].rows[0] == ("edge", 51.0, 51.0, 51.0)


def test_costs_are_per_frame(results):
    for (method, *values), name in zip(cost(results).sections[0].rows, small_results.METHODS, strict=True):
        assert method == name
        np.testing.assert_allclose(values, [0.1, 1.0])


def test_a_folder_without_an_evaluation_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json"):
        summary(Results(tmp_path))
