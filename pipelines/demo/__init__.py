"""The main job on one machine: real models, real servers, real load, the compiled sub-DAG."""
