"""Graphs and chains that grow step by step, as far as their library accepts the steps."""
from other_layers import layer_for
from plan import run

BATCH = 3
TRIES = 10


class Nothing(Exception):
    """Nothing of the kind fits here."""


class Growth(object):
    """A growing graph: the steps that its library accepted, and what they left."""

    def __init__(self, library, chance):
        self.library = library
        self.chance = chance
        self.steps = []
        self.done = []

    def add(self, step):
        """Does a step and returns the references of its tensors."""
        done = run(self.library, step, self.done)
        self.steps.append(step)
        self.done.append(done)
        return [[len(self.steps) - 1, index] for index in range(len(done.tensors))]

    def input(self, data=None, shape=None, **more):
        batch = {"batch": BATCH} if self.chance.stateful else {}
        step = {"input": dict(dict(batch, shape=shape), **more)}
        return self.add(dict(step, data=data) if data else step)[0]

    def apply(self, layer, *sources, **how):
        """Calls a new layer, or with `again=STEP` that of an earlier step, and returns references."""
        if layer is not None and "make" in layer and self.chance.frozen and self.chance.maybe(0.3):
            layer["with"]["trainable"] = False
        step = {"again": how.pop("again")} if "again" in how else {"layer": layer}
        return self.add(dict(step, of=list(sources), **{name: value for name, value in how.items() if value}))

    def attempt(self, kind):
        """Lets a kind of step add to the graph, or leaves it as it was."""
        before = len(self.steps)
        try:
            kind(self.chance, self)
            return True
        except self.library.REFUSALS + (Nothing,):
            del self.steps[before:], self.done[before:]
            return False

    def shape(self, reference):
        at, index = reference
        return list(self.library.shape(self.done[at].tensors[index]))[1:]

    def references(self, *ranks):
        """All tensors so far of these ranks, without the batch."""
        every = [[at, index] for at, done in enumerate(self.done) for index in range(len(done.tensors))]
        return [one for one in every if not ranks or len(self.shape(one)) in ranks]

    def some(self, *ranks, **shape):
        """One of the latest tensors, which makes graphs deep rather than wide."""
        found = [one for one in self.references(*ranks) if shape.get("like") in (None, self.shape(one))]
        if not found:
            raise Nothing()
        return found[-1] if self.chance.maybe(0.5) else self.chance.one_of(*found)

    def next_layer(self, reference):
        """Puts a random layer behind a tensor."""
        for _ in range(TRIES):
            before = len(self.steps)
            try:
                outputs = self.apply(layer_for(self.chance, self.shape(reference)), reference)
                if len(outputs) == 1:
                    return outputs[0]
            except self.library.REFUSALS + (KeyError,):
                pass
            del self.steps[before:], self.done[before:]
        raise Nothing()

    def unused(self):
        """The tensors that no step takes."""
        taken = [one for step in self.steps for one in step.get("of", []) + step.get("states", [])]
        inputs = [index for index, step in enumerate(self.steps) if "input" in step]
        return [one for one in self.references() if one not in taken and one[0] not in inputs]
