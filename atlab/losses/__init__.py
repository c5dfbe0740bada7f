"""What a training loop adds to its loss: the loss-term protocol, anti-transfer, gradient reversal."""

from atlab.losses.anti_transfer import AntiTransferLoss
from atlab.losses.gradient_reversal import GradientReversal
from atlab.losses.term import LossTerm, ramp

__all__ = ["AntiTransferLoss", "GradientReversal", "LossTerm", "ramp"]
