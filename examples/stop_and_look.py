"""Stop a network while it learns, look inside, change a knob, and go on.

    python examples/stop_and_look.py

A network learns to read digits. We stop it at the first step whose loss is higher than the one before, find the
hidden unit that the loss depends on most, look at the world through its eyes, and change one of its knobs. Then we
let the rest of the run happen twice: once with the change, and once with the change undone. Undone, it leaves no
trace: the numbers are those of a run that nobody ever stopped, bit for bit.
"""

import copy
import warnings

import numpy as np
from sklearn.datasets import load_digits

from gdl import MLPClassifier

warnings.simplefilter("ignore")  # five epochs are too few to converge, and it would say so

SHADES = " .:-=+*#%@"


def new_network():
    """Return a network that goes on where it was left."""
    return MLPClassifier((24,), max_iter=5, batch_size=64, learning_rate_init=0.01, random_state=1, warm_start=True)


def stop_where_the_loss_rises(model, X, y):
    """Train until a batch's loss is higher than the last one's, and return the step that it is."""
    loss_before = np.inf
    for step in model.steps(X, y):
        step.predict()
        step.compare()
        if step.loss > loss_before:
            break
        print(f"  step {step.number}: loss {step.loss:.4f}")
        loss_before = step.loss
    print(f"  step {step.number}: loss {step.loss:.4f}, which is more than {loss_before:.4f}. Stop.\n")
    return step


def find_the_busiest_unit(step):
    """Return the number of the hidden unit whose knobs the loss depends on most."""
    gradient = step.gradients[0].W  # a row for each pixel, a column for each unit
    length = np.sqrt((gradient**2).sum(axis=0))
    unit = int(length.argmax())
    print(f"Of {len(length)} hidden units, number {unit} has the longest gradient: {length[unit]:.4f}.")
    print(
        f"Its output for the {len(step.batch)} digits of this batch goes from {step.activations[0][:, unit].min():.2f}"
    )
    print(
        f"to {step.activations[0][:, unit].max():.2f}. What excites it (@) and what does not (blank), pixel by pixel:\n"
    )
    return unit


def print_picture(pixels):
    """Print 64 numbers as a square of 8 by 8 shades."""
    scaled = (pixels - pixels.min()) / np.ptp(pixels)
    for line in scaled.reshape(8, 8):
        print("    " + "".join(2 * SHADES[int(shade * 9.999)] for shade in line))
    print()


def main():
    """Tell the story."""
    X, y = load_digits(return_X_y=True)
    X = X / 16

    print("Nobody looks:")
    undisturbed = new_network().fit(X, y)
    print(f"  loss of the epochs: {np.round(undisturbed.loss_curve_, 4)}\n")

    print("The same network, step by step:")
    model = new_network()
    step = stop_where_the_loss_rises(model, X, y)
    unit = find_the_busiest_unit(step)
    print_picture(model.coefs_[0][:, unit])

    pixel = int(np.abs(step.gradients[0].W[:, unit]).argmax())
    knob = model.coefs_[0][pixel, unit]
    print(
        f"The loss depends most on its knob for pixel {pixel}. It stands at {knob:.4f}; we turn it to {knob + 1:.4f}."
    )
    changed = copy.deepcopy(model)
    changed.coefs_[0][pixel, unit] = knob + 1
    changed.fit(X, y)  # goes on from the step where we stopped
    print(f"  loss of the epochs: {np.round(changed.loss_curve_, 4)}")
    print(f"  knobs that ended elsewhere: {(changed.parameters_ != undisturbed.parameters_).mean():.0%}\n")

    print("We turn it back, and let the network go on:")
    model.coefs_[0][pixel, unit] = knob + 1
    model.coefs_[0][pixel, unit] = knob
    model.fit(X, y)
    print(f"  loss of the epochs: {np.round(model.loss_curve_, 4)}")
    same = np.array_equal(model.parameters_, undisturbed.parameters_)
    print(f"  every knob where it would have been, to the last bit: {same}")


if __name__ == "__main__":
    main()
