from twinlines.pipeline.training.members import Metrics as Metrics
from twinlines.pipeline.training.members import Training as Training
from twinlines.pipeline.training.members import WarmStart as WarmStart
from twinlines.pipeline.training.members import train as train
from twinlines.pipeline.training.members import train_chain as train_chain
