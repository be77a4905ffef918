"""The optimizers of legacy Keras whose steps Keras 3's cannot take: small classes, registered, for training further.

Keras 3's own optimizers take the same steps in every other case. These have the equations of the old ones, so that a
legacy model continues as it would have there; for new models take Keras' own.
"""

from __future__ import annotations

from keras_gru_ext.requirements import require_backend

require_backend()

from typing import Any

import keras

_PACKAGE = "keras_gru_ext"


@keras.saving.register_keras_serializable(package=_PACKAGE)
class LegacyRMSprop(keras.optimizers.Optimizer):
    """RMSprop with `epsilon` beside the root: `w -= learning_rate * g / (sqrt(v) + epsilon)`.

    Keras 3 has it inside, `sqrt(v + epsilon)`, which makes the steps of small gradients smaller: with the usual
    `epsilon=1e-7` by 4 % where gradients are about 1e-3, and to a third where they are about 1e-4.

    Args:
        learning_rate: A number or a schedule.
        rho: How much of the mean of squares is kept at each step.
        epsilon: The number beside the root.
        centered: Whether the mean gradient's square is taken off the mean of squares.
        name: The optimizer's name.
        **kwargs: As for every optimizer of Keras: `clipnorm`, `global_clipnorm`, ...

    Source: `RMSprop` of Keras 1.0 to 2.3.1 and of tf.keras up to 2.10 without momentum.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        epsilon: float = 1e-7,
        centered: bool = False,
        name: str = "rmsprop",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.rho = rho
        self.epsilon = epsilon
        self.centered = centered

    def build(self, variables: Any) -> None:
        """Makes one mean of squares for each variable, and one mean gradient if `centered`."""
        if self.built:
            return
        super().build(variables)
        self._squares = [self.add_variable_from_reference(one, name="velocity") for one in variables]
        self._means = []
        if self.centered:
            self._means = [self.add_variable_from_reference(one, name="average_gradient") for one in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Takes one step for one variable."""
        ops, index = keras.ops, self._get_variable_index(variable)
        gradient = ops.cast(gradient, variable.dtype)
        square = self._squares[index]
        self.assign(square, self.rho * square + (1 - self.rho) * ops.square(gradient))
        spread = square
        if self.centered:
            mean = self._means[index]
            self.assign(mean, self.rho * mean + (1 - self.rho) * gradient)
            spread = square - ops.square(mean)
        self.assign_sub(
            variable, ops.cast(learning_rate, variable.dtype) * gradient / (ops.sqrt(spread) + self.epsilon)
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "rho": self.rho, "epsilon": self.epsilon, "centered": self.centered}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class LegacyAdagrad(keras.optimizers.Optimizer):
    """Adagrad with `epsilon` beside the root: `w -= learning_rate * g / (sqrt(a) + epsilon)`.

    Args:
        learning_rate: A number or a schedule.
        initial_accumulator_value: What the sums of squares start from.
        epsilon: The number beside the root.
        name: The optimizer's name.
        **kwargs: As for every optimizer of Keras: `clipnorm`, `global_clipnorm`, ...

    Source: `Adagrad` of Keras 1.0 to 2.3.1 and of tf.keras up to 2.10.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.0,
        epsilon: float = 1e-7,
        name: str = "adagrad",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def build(self, variables: Any) -> None:
        """Makes one sum of squares for each variable."""
        if self.built:
            return
        super().build(variables)
        start = keras.initializers.Constant(self.initial_accumulator_value)
        self._sums = [self.add_variable_from_reference(one, name="accumulator", initializer=start) for one in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Takes one step for one variable."""
        ops = keras.ops
        gradient = ops.cast(gradient, variable.dtype)
        total = self._sums[self._get_variable_index(variable)]
        self.assign_add(total, ops.square(gradient))
        rate = ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, rate * gradient / (ops.sqrt(total) + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package=_PACKAGE)
class LegacyNadam(keras.optimizers.Optimizer):
    """Nadam whose momentum warms up slowly: `beta_1 * (1 - 0.96 ** (schedule_decay * t) / 2)`.

    Keras 3 has `0.96 ** t` there: at step 1 both have half of `beta_1`, at step 50 this one 0.50 of it, Keras 3 0.93.

    Args:
        learning_rate: A number or a schedule.
        beta_1: The momentum that is warmed up to, and how much of the mean gradient is kept at each step.
        beta_2: How much of the mean of squares is kept at each step.
        epsilon: The number beside the root.
        schedule_decay: How fast the momentum warms up.
        name: The optimizer's name.
        **kwargs: As for every optimizer of Keras: `clipnorm`, `global_clipnorm`, ...

    Source: `Nadam` of Keras 1.0 to 2.3.1 and of tf.keras up to 2.10.
    """

    def __init__(
        self,
        learning_rate: Any = 0.002,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        schedule_decay: float = 0.004,
        name: str = "nadam",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.schedule_decay = schedule_decay
        self._product = self.add_variable(shape=(), initializer="ones", name="momentum_product")

    def build(self, variables: Any) -> None:
        """Makes one mean gradient and one mean of squares for each variable."""
        if self.built:
            return
        super().build(variables)
        self._means = [self.add_variable_from_reference(one, name="momentum") for one in variables]
        self._squares = [self.add_variable_from_reference(one, name="velocity") for one in variables]

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Takes one step for all variables, which share the product of the momenta so far."""
        self._product.assign(self._product * self._momentum(1))
        return super().apply(grads, trainable_variables)

    def _momentum(self, ahead: int) -> Any:
        step = keras.ops.cast(self.iterations + ahead, self._product.dtype)
        return self.beta_1 * (1.0 - 0.5 * keras.ops.power(0.96, step * self.schedule_decay))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Takes one step for one variable."""
        ops, index = keras.ops, self._get_variable_index(variable)
        gradient = ops.cast(gradient, variable.dtype)
        mean, square = self._means[index], self._squares[index]
        self.assign(mean, self.beta_1 * mean + (1 - self.beta_1) * gradient)
        self.assign(square, self.beta_2 * square + (1 - self.beta_2) * ops.square(gradient))
        now, then, product = (
            ops.cast(one, variable.dtype) for one in (self._momentum(1), self._momentum(2), self._product)
        )
        step = ops.cast(self.iterations + 1, variable.dtype)
        scale = ops.sqrt(square / (1 - ops.power(self.beta_2, step))) + self.epsilon
        direction = (1 - now) * gradient / (1 - product) + then * mean / (1 - product * then)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * direction / scale)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        kept = ("beta_1", "beta_2", "epsilon", "schedule_decay")
        return {**super().get_config(), **{key: getattr(self, key) for key in kept}}
