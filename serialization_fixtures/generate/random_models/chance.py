"""Random choices that a seed decides, and what they decided about a whole model."""
import random


class Chance(object):
    """One model's random choices.

    Its traits hold for the whole model: `stateful`, `float64`, `odd_names` (names that a user might have given),
    `penalties` (initializers, regularizers, constraints), `frozen` (some layers not trainable), and `steps`, the
    number of time steps.
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.stateful = self.maybe(0.12)
        self.float64 = self.maybe(0.05)
        self.odd_names = self.maybe(0.25)
        self.penalties = self.maybe(0.3)
        self.frozen = self.maybe(0.3)
        self.steps = self.between(20, 40) if self.maybe(0.08) else self.between(4, 7)
        self._names = 0

    def maybe(self, probability):
        return self.random.random() < probability

    def between(self, first, last):
        return self.random.randint(first, last)

    def one_of(self, *values):
        return self.random.choice(values)

    def pick(self, weighted):
        """One of the values in a list of (weight, value)."""
        at = self.random.random() * sum(weight for weight, _ in weighted)
        for weight, value in weighted:
            at -= weight
            if at < 0:
                return value
        return weighted[-1][1]

    def options(self, **choices):
        """Keyword arguments, of which each is there with its own probability: `name=(probability, value, ...)`."""
        return {
            name: self.one_of(*choice[1:]) for name, choice in sorted(choices.items()) if self.maybe(choice[0])
        }

    def seed(self):
        return self.between(0, 2 ** 31 - 1)

    def name(self):
        """Sometimes `{"name": ...}` with a name that looks like another layer's, or needs escaping."""
        if not self.odd_names or not self.maybe(0.5):
            return {}
        self._names += 1
        number = self._names
        return {"name": self.one_of(
            "my_%d" % number, "part/gru_%d" % number, "gru_%d" % (20 - number), "%d" % number, "A-%d.b" % number,
            "dense_%d" % (15 - number), "kernel_%d" % number, "input_%d" % (30 + number), "forward_gru_%d" % number,
        )}
