"""What a conversion did, as a table that a person reads.

unet     1209.0 M parameters: 865.9 M loaded from 686 tensors, 343.1 M initialised in 460
           new: down.*.transformer.*.space_time (192 tensors, 130.6 M)
"""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from gp_jax.convert.translate import Network


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of each tensor, by component: our names with anything that has a shape."""

    source: str
    loaded: dict[str, dict[str, Any]]
    initialised: dict[str, dict[str, Any]]
    left_out: dict[str, dict[str, Any]]
    """Ours that the target format has no place for."""
    ignored: tuple[str, ...] = ()
    """Names in the source that no network of ours has a use for."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: str, networks: list[Network], ignored: tuple[str, ...] = ()) -> "Report":
        """The report on networks that were all made."""
        return cls(
            source,
            {network.component: dict(network.tensors) for network in networks},
            {network.component: dict(network.initialised) for network in networks},
            {network.component: dict(network.left_out) for network in networks},
            ignored,
            tuple(f"{network.component}: {note}" for network in networks for note in network.notes),
        )

    def parameters(self, component: str) -> int:
        """Of the whole network, as far as it was made."""
        return count(self.loaded[component]) + count(self.initialised[component])

    def __str__(self) -> str:
        lines = [self.source]
        for component, loaded in self.loaded.items():
            new = self.initialised[component]
            lines.append(
                f"  {component:20}{millions(self.parameters(component))} parameters: "
                f"{millions(count(loaded))} loaded ({len(loaded)} tensors), "
                f"{millions(count(new))} initialised ({len(new)} tensors)"
            )
            if loaded:
                lines += [f"    new: {line}" for line in modules(new, loaded)]
            lines += [f"    left out: {line}" for line in modules(self.left_out[component], loaded)]
        if self.ignored:
            lines.append(f"  ignored ({len(self.ignored)}):")
            lines += [f"    {line}" for line in summary(self.ignored)]
        return "\n".join(lines + [f"  {note}" for note in self.notes])


def count(tensors: Mapping[str, Any]) -> int:
    """Parameters in all tensors together."""
    return sum(math.prod(tensor.shape) for tensor in tensors.values())


def millions(parameters: int) -> str:
    """1234567 -> `1.2 M`; small numbers as they are."""
    return f"{parameters / 1e6:.1f} M" if parameters >= 100_000 else str(parameters)


def modules(new: Mapping[str, Any], loaded: Collection[str]) -> list[str]:
    """One line per kind of module that is new as a whole; list positions become `*`."""
    old = {".".join(name.split(".")[:depth]) for name in loaded for depth in range(1, name.count(".") + 1)}
    kinds: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, tensor in new.items():
        parts = name.split(".")
        prefixes = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        whole = next((prefix for prefix in prefixes if prefix not in old), name)
        kinds[re.sub(r"\.\d+", ".*", whole)][name] = tensor
    return [f"{kind} ({len(group)} tensors, {millions(count(group))})" for kind, group in kinds.items()]


def summary(names: tuple[str, ...]) -> list[str]:
    """Names that differ in numbers alone are shown once, with their count."""
    kinds: dict[str, int] = defaultdict(int)
    for name in names:
        kinds[re.sub(r"\d+", "*", name)] += 1
    return [f"{kind} ({number})" if number > 1 else kind for kind, number in kinds.items()]
