"""Commands: one function a file, named after it; what is slow to import is imported when it runs."""
