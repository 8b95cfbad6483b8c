"""How the learning rate of a training falls, and when the training ends, from its validations so far.

Both depend on nothing else but `Schedule.max_seconds`, so a resumed training goes on as if it had not been cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Peak rate of the second and every later round, as a share of the first round's.
RESTART = 0.5
#: Another round follows if the validation rose by more than this share.
RISE = 0.01
#: The last share of max_seconds, in which the rate falls to zero.
TIME_DECAY = 0.25


@dataclass(frozen=True)
class Schedule:
    """The optimization of one stage: AdamW and a short warm-up; then the learning rate falls to zero in each round.

    The first round ends early after `patience` epochs without a better validation. Where the validation still rises at
    the end of a round, another one follows (Loshchilov and Hutter, "SGDR", ICLR 2017).
    """

    stage: str
    max_epochs: int
    learning_rate: float
    weight_decay: float = 0.01
    patience: int = 3  # epochs without a better validation
    seed: int = 0
    warmup_steps: int = 20  # of the first epoch, over which the learning rate rises to its peak
    round_epochs: int | None = None  # None: one round of max_epochs
    #: The rates of another training, at the start and end of each epoch. There are so many epochs.
    rates: tuple[tuple[float, float], ...] | None = None
    max_seconds: float | None = None  # the rate falls to zero towards this time, if the stage is not over by then

    @property
    def epochs(self) -> int:
        """Most epochs."""
        return self.max_epochs if self.rates is None else len(self.rates)

    @property
    def length(self) -> int:
        """Epochs of a round."""
        return max(1, min(self.round_epochs or self.max_epochs, self.max_epochs))

    def rate(self, epoch: int, share: float) -> float:
        """The learning rate after a `share` of an epoch (from 0)."""
        if self.rates is not None:
            first, last = self.rates[epoch]
            return first + share * (last - first)
        number, place = divmod(epoch, self.length)
        peak = self.learning_rate * (RESTART if number else 1.0)
        return peak * (1.0 - (place + share) / self.length)

    def share_of_time(self, spent: float) -> float:
        """The factor of the learning rate after so many seconds: 1, at last falling to 0 at max_seconds."""
        if self.max_seconds is None:
            return 1.0
        return min(1.0, max(0.0, 1.0 - spent / self.max_seconds) / TIME_DECAY)

    def ends(self, scores: Sequence[float]) -> bool:
        """Whether the stage ends after epochs of these validation scores (rising without a validation)."""
        done = len(scores)
        if done >= self.epochs:
            return True
        if self.rates is not None:
            return False
        waited = done - 1 - scores.index(max(scores))
        if done % self.length:
            return done < self.length and waited >= self.patience
        newest = self.patience if done == self.length else self.length
        before = max(scores[: max(done - newest, 0)], default=-float("inf"))
        return max(scores) <= before + RISE * abs(before)
