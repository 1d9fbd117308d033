diagnosis = {"a": "lone", "b": "self", "c": "self"}
