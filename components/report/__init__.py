"""What a run leaves for people and for the next task: Metrics, Markdown, HTML, JSON."""
