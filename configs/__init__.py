"""For use from a checkout, --config=configs/lm1b.py: the configurations themselves are in semdlm_jax/experiment."""
