"""The parts of an object job: its plan, the search block by block, the result and its record."""
