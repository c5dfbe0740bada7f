"""What a run will cost (predicted) and what a step costs here (measured)."""

from atlab.system.extras import check

check(__name__)

from atlab.cost.predicted import at_flops, at_memory, feature_maps, predict, step_flops, step_memory, vgg16

__all__ = ["at_flops", "at_memory", "feature_maps", "predict", "step_flops", "step_memory", "vgg16"]
