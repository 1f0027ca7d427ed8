import pytest
import toy_checkpoints

from semdlm_jax.runtime.checkpoints import Checkpointer


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A folder with checkpoints 1 and 2, the second one latest and best; and what was saved in them."""
    folder = tmp_path_factory.mktemp("saved")
    checkpointer = Checkpointer(folder, best_metric="loss")
    truth = toy_checkpoints.run(checkpointer, [2.0, 1.0])
    checkpointer.close()
    return folder, truth
