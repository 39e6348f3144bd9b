"""Components of `model_load_test`: one room per step of the load-test sub-DAG."""
