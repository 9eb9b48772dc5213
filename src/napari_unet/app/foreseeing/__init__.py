"""The parts of a plan for a big run."""
