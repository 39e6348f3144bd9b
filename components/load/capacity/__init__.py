"""The highest load at which given objectives hold, with its uncertainty."""
