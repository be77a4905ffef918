"""Graphs and chains that grow step by step, as far as their library accepts the steps."""
from other_layers import layer_for
from plan import build, run, sized

BATCH = 3
TRIES = 10


class Nothing(Exception):
    """Nothing of the kind fits here."""


def freeze(chance, layer):
    """Sets the layer of a description not trainable, now and then, if some of the model's layers are."""
    if chance.frozen and layer.get("make", "layers.InputLayer") != "layers.InputLayer" and chance.maybe(0.3):
        layer["with"]["trainable"] = False


class Row(object):
    """A growing Sequential: the layers that its library accepted."""

    def __init__(self, library, chance):
        self.library = library
        self.chance = chance
        self.name = chance.name()
        self.model = library.keras.models.Sequential(**self.name)
        self.layers = []

    def described(self, **more):
        return dict({"chain": self.layers}, **dict(more, **self.name))

    def add(self, layer, size=None, live=None):
        """Adds a layer, which is made if it is not there; the first one with arguments that tell its input's size."""
        freeze(self.chance, layer)
        if live is None:
            live = build(self.library, sized(layer, size) if size else layer)
        self.model.add(live)
        self.layers.append(layer)

    def shape(self):
        return list(self.library.shape(self.model.outputs[0]))[1:]

    def next_layer(self):
        for _ in range(TRIES):
            try:
                return self.add(layer_for(self.chance, self.shape()))
            except self.library.REFUSALS + (KeyError,):
                pass
        raise Nothing()


class Growth(object):
    """A growing graph: the steps that its library accepted, and what they left."""

    def __init__(self, library, chance):
        self.library = library
        self.chance = chance
        self.steps = []
        self.done = []

    def add(self, step, live=None):
        """Does a step and returns the references of its tensors."""
        done = run(self.library, step, self.done, live)
        self.steps.append(step)
        self.done.append(done)
        return [[len(self.steps) - 1, index] for index in range(len(done.tensors))]

    def input(self, data=None, shape=None, **more):
        batch = {"batch": BATCH} if self.chance.stateful else {}
        step = {"input": dict(dict(batch, shape=shape), **more)}
        return self.add(dict(step, data=data) if data else step)[0]

    def apply(self, layer, *sources, **how):
        """Calls a new layer, or with `again=STEP` that of an earlier step, and returns references.

        `live=LAYER` is the new layer itself, if it is there.
        """
        if layer is not None:
            freeze(self.chance, layer)
        live = how.pop("live", None)
        step = {"again": how.pop("again")} if "again" in how else {"layer": layer}
        return self.add(dict(step, of=list(sources), **{name: value for name, value in how.items() if value}), live)

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
