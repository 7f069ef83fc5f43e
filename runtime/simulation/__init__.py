"""A whole federation in one process, from one seed: coordinator, agents, clients, stores, network and clock, and
everything that can go wrong with them. What happens is decided by the seed alone, so what failed once fails again.

    python -m hanse.runtime.simulation --seeds 50000          # look for trouble
    python -m hanse.runtime.simulation --seed 4711 --tell     # look at it

The parts are the real ones. Only the world around them is made here: `loop` gives them time and ends processes in the
middle of anything, `disk` loses what was not synced (`power` does so under a real SQLite, write by write), `network`
delays and cuts, `village` is what they work on, `fate` decides what goes wrong, `story` runs one seed and judges it.
"""

__all__: list[str] = []
