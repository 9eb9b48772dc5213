"""From probabilities to numbered objects, without torch."""
