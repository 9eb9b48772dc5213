"""Drafts: what is looked at, predicted anew half a second after each stroke."""
