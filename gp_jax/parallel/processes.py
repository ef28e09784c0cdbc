"""Several processes, one program: how they find each other, and which rows of a batch each has to bring.

start("10.0.0.1:1234", num_processes=4, process_id=0)       every process says the same, but for its number
start("auto")                                               on a TPU pod or under SLURM, which know it themselves
"""

import jax
from jax.sharding import NamedSharding

from gp_jax.errors import UserError


def start(coordinator: str | None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Joins the other processes; to be called before anything asks for devices.

    Args:
      coordinator: address and port of process 0, "auto" where the cluster tells, None for a process on its own.
      num_processes, process_id: how many there are, and which one this is; not with "auto".

    Raises:
      UserError: the arguments contradict each other, or the others cannot be found.
    """
    if coordinator is None:
        if num_processes is not None or process_id is not None:
            raise UserError("several processes need the address of the first: give --coordinator HOST:PORT")
        return
    named = num_processes is not None and process_id is not None
    if named == (coordinator == "auto"):
        raise UserError("--coordinator HOST:PORT goes with --num-processes and --process-id, and auto without them")
    try:
        if named:
            jax.distributed.initialize(coordinator, num_processes, process_id)
        else:
            jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"the processes do not find each other at {coordinator}: {reason}") from error


def process_share(sharding: NamedSharding, rows: int) -> tuple[int, int]:
    """Which part of `rows` rows lies on this process, as (index, count): rows index * rows / count and following.

    Processes that hold the same rows get the same answer: they all bring them.

    Args:
      sharding: of an array whose first axis are the rows.
      rows: of the global batch.
    """
    spans = [index[0].indices(rows) for index in sharding.addressable_devices_indices_map((rows,)).values()]
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    return first // (last - first), rows // (last - first)
