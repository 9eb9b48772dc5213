"""The parts of an evaluation: pairs, blocks, scores, and the report."""
