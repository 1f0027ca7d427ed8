"""Where the rooms meet: defaults and systems, configurations by name, the data of a run, its parts, a trained run."""
