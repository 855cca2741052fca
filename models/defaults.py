"""How training goes if nothing else is said: the paper's choices where it states them (Zhang et al. 2022, section 3.2).

Declared here alone. Free of torch, since the command line's help shows these numbers and must not wait for it.
"""

from __future__ import annotations

PENALTY = 16
"""Weight Lambda of single stars in the loss: the paper's choice for its catalog (section 4.1)."""

PENALTIES = (8, 16, 32)
"""Penalties for which a member has outputs: those of the catalog (Table 4)."""

LEAST_VISIBILITY = 0.3
"""Least visibility of a binary that counts in training (``pipeline/training/visibility.py``)."""

MEMBERS = 5
"""Members: each is a network for both arms and all penalties."""

EPOCHS = 60
"""Epochs after which a member's training ends in any case."""

LEARNING_RATE = 1.0e-3
"""Adam's learning rate at the start (the paper's)."""

SCHEDULES = ("validation", "linear")
"""Ways in which the learning rate falls."""

SCHEDULE = SCHEDULES[0]
"""The paper's: divided after epochs whose validation loss has risen."""

EPOCH_PAIRS = 0
"""Training pairs shown in an epoch; 0: all."""

BATCH_PAIRS = 128
"""Pairs in a batch, which holds both spectra of each."""
