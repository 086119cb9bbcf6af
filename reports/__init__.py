"""Reports: stored runs -> a Document of values -> text in a format."""
