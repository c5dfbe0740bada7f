"""What a training loop adds to its loss: the loss-term protocol, anti-transfer, gradient reversal; losses of the target that weigh clips."""

from atlab.losses.anti_transfer import AntiTransferLoss
from atlab.losses.gradient_reversal import GradientReversal
from atlab.losses.target import GroupDro, TargetLoss, Weighted
from atlab.losses.term import LossTerm, ramp

__all__ = ["AntiTransferLoss", "GradientReversal", "GroupDro", "LossTerm", "TargetLoss", "Weighted", "ramp"]
