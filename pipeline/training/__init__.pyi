from twinlines.pipeline.training.members import Metrics as Metrics
from twinlines.pipeline.training.members import Training as Training
from twinlines.pipeline.training.members import train as train
from twinlines.pipeline.training.members import train_one as train_one
