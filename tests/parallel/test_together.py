"""Two real processes: what they share is the same on both, and neither outlives the other for long."""

import pytest

from tests.parallel.together import run

LOST = "has died or cannot be reached"
SLOW = pytest.mark.slow  # a pair of processes takes seconds of CPU; one for each law is enough for every day


def test_arrays_are_gathered_in_one_order_and_rows_lie_where_they_belong():
    """Each process has built its dictionary in another order; rows are dealt out by turns."""
    ends = run(
        """
    from gp_jax.parallel.gather import gathered, placed, whole
    from gp_jax.fit.step import on_mesh
    values = {name: np.arange(8.0).reshape(4, 2) + 10 * i for i, name in enumerate("bdac")}
    order = sorted(values, reverse=bool(number))
    arrays = {n: jax.make_array_from_callback((4, 2), place, lambda i, n=n: values[n][i]) for n in order}
    arrays["whole"] = jax.device_put(np.float32(3), NamedSharding(mesh, P()))
    found = list(gathered(arrays))
    assert [name for name, _ in found] == ["a", "b", "c", "d", "whole"]
    for name, array in found:
        assert (array is None) == (number == 1)
        assert array is None or np.array_equal(array, values.get(name, 3))
    cut = placed(values["c"], place)
    assert not cut.is_fully_replicated and cut.sharding == place
    both = whole({"cut": cut, "own": values["a"]})
    assert np.array_equal(both["cut"], values["c"]) and both["own"] is values["a"]

    for turns in ([0, 2, 1, 3], [3, 0, 2, 1], [0, 1, 2, 3]):
        devices = np.array(jax.devices())[turns].reshape(4, 1)
        dealt = Mesh(devices, ("data", "fsdp"))
        rows = processes.process_rows(NamedSharding(dealt, P(("data", "fsdp"))), 8)
        x = np.arange(24).reshape(8, 3)
        spec = {"x": jax.ShapeDtypeStruct(x.shape, x.dtype)}
        made = on_mesh({"x": x[rows]}, spec, dealt)["x"]
        for shard in made.addressable_shards:
            assert np.array_equal(shard.data, x[shard.index]), turns

    assert processes.on_first(lambda: {"told": number}) == {"told": 0}
    try:
        processes.on_first(lambda: (_ for _ in ()).throw(UserError("no room")))
    except UserError as error:
        assert str(error) == "no room"
    """,
        devices=2,
    )
    assert [end.code for end in ends] == [0, 0] and all("well" in end.printed for end in ends), ends


# What one process does, while the other one does something; the code of both, and what both say.
ENDS = [
    pytest.param(0, "raise UserError('no room')", "everywhere(ones)", 2, "no room", marks=SLOW),
    (1, "raise UserError('no room')", "processes.on_first(lambda: time.sleep(99))", 2, "no room"),
    pytest.param(0, "raise UserError('no room')", "processes.on_first(lambda: 0)", 2, "no room", marks=SLOW),
    (1, "{}['key']", "time.sleep(99)", 1, "KeyError: 'key'"),
    pytest.param(1, "raise Stopped('stopped by SIGTERM', 0)", "everywhere(ones)", 0, "stopped by SIGTERM", marks=SLOW),
    (0, "sys.exit(143)", "everywhere(ones)", 143, "it was told to leave"),
]


def runs(who, does, meanwhile):
    ends = run(f"""
    if number == {who}:
        {does}
    {meanwhile}
    """)
    assert all("well" not in end.printed for end in ends), ends
    return ends


@pytest.mark.parametrize("who, does, meanwhile, code, reason", ENDS)
def test_both_end_with_the_reason_of_one(who, does, meanwhile, code, reason):
    ends = runs(who, does, meanwhile)
    assert [end.code for end in ends] == [code, code], ends
    assert all(reason in end.printed for end in ends), ends
    assert "Traceback" not in ends[1 - who].printed and ends[1 - who].printed.count("gp-jax: ") == 1


@pytest.mark.parametrize(
    "who, meanwhile", [(0, "time.sleep(99)"), (1, "everywhere(ones)"), pytest.param(1, "time.sleep(99)", marks=SLOW)]
)
def test_the_other_notices_a_kill(who, meanwhile):
    other = runs(who, "os.kill(os.getpid(), signal.SIGKILL)", meanwhile)[1 - who]
    assert other.code == 2 and LOST in other.printed, other
    assert other.seconds < 99  # of which most is the start; a loaded machine takes long for it
