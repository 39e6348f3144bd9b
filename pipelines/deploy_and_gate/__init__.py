"""The gate with servers of its own: validated, deployed, loaded, judged and taken down again."""
