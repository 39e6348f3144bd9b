"""The Kubernetes API as the other rooms need it: connect, apply, wait, explain, own, clean up."""
